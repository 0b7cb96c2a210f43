import pytest
import torch

from server.engines.image.layouts.sidecar import Sidecar
from server.engines.image.prediction import asked, said


@pytest.mark.parametrize(
    ("extra", "metadata", "names", "told"),
    [
        (Sidecar(), {}, [], None),
        (Sidecar(prediction="v"), {"modelspec.prediction_type": "epsilon"}, [], "v"),
        (Sidecar(prediction="eps"), {}, ["v_pred"], "eps"),
        (Sidecar(), {"modelspec.prediction_type": "v"}, [], "v"),
        (Sidecar(), {"modelspec.prediction_type": "Epsilon"}, ["v_pred"], "eps"),
        (Sidecar(), {"modelspec.prediction_type": "guess"}, ["v_pred"], "v"),
        (Sidecar(), {"modelspec.prediction_type": "guess"}, [], None),
    ],
)
def test_the_yaml_wins_over_the_header_over_a_mark(
    extra: Sidecar, metadata: dict[str, str], names: list[str], told: str | None
) -> None:
    assert said(extra, metadata, dict.fromkeys(names, (0,))) == told


class Answers(torch.nn.Module):
    """A network that answers its latent with something added."""

    def __init__(self, added: float) -> None:
        super().__init__()
        self.added = added
        self.config = type("Config", (), {"in_channels": 9, "cross_attention_dim": 6})
        self.dtype = torch.float32

    def forward(self, x: torch.Tensor, t: torch.Tensor, text: torch.Tensor, return_dict: bool) -> tuple[torch.Tensor]:
        assert x.shape == (1, 9, 8, 8)
        assert bool((x == 0.5).all())
        assert bool((text == 0.5).all())
        assert t.tolist() == [999]
        return (x[:, :4] + self.added,)


@pytest.mark.parametrize(("added", "prediction"), [(0.0, "eps"), (-0.99, "eps"), (-1.01, "v"), (3.0, "eps")])
def test_a_network_is_told_by_how_far_it_goes_down(added: float, prediction: str) -> None:
    assert asked(Answers(added), torch.device("cpu")) == prediction  # type: ignore[arg-type]
