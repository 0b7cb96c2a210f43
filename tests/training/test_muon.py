"""The optimiser of the trainings: matrices are made orthogonal, whatever their form."""

import copy

import pytest

from tests.support.tiny_models import needs_torch

pytestmark = [pytest.mark.torch, needs_torch]


@pytest.mark.parametrize("shape", [(16, 16), (16, 24), (24, 16), (16, 144), (144, 16)])
def test_singular_values_come_near_one(shape: tuple[int, int]) -> None:
    import torch

    from training.muon import orthogonal

    torch.manual_seed(1)
    values = torch.linalg.svdvals(orthogonal(torch.randn(3, *shape)))
    assert values.min() > 0.6 and values.max() < 1.3


def test_long_matrices_are_done_as_others_are(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from training import muon

    torch.manual_seed(2)
    matrices = torch.randn(2, 16, 144)
    short = muon.orthogonal(matrices)
    monkeypatch.setattr(muon, "LONG", 1000)
    assert torch.allclose(short, muon.orthogonal(matrices), atol=1e-3)


def test_all_parameters_are_stepped_and_a_state_goes_on() -> None:
    import torch

    from training.muon import Steps

    def made() -> tuple[torch.nn.Conv2d, Steps]:
        torch.manual_seed(3)
        layer = torch.nn.Conv2d(3, 8, 3)
        return layer, Steps(layer.parameters(), [layer.weight])

    def stepped(layer: torch.nn.Conv2d, steps: Steps) -> None:
        layer(torch.ones(1, 3, 4, 4)).square().sum().backward()
        steps.step(0.02, 1e-3)

    whole, steps = made()
    before = [parameter.detach().clone() for parameter in whole.parameters()]
    stepped(whole, steps)
    assert not any(torch.equal(old, new) for old, new in zip(before, whole.parameters(), strict=True))
    weights = {name: value.clone() for name, value in whole.state_dict().items()}
    state = copy.deepcopy(steps.state())
    other, others = made()
    other.load_state_dict(weights)
    others.restore(state)
    stepped(whole, steps)
    stepped(other, others)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), other.parameters(), strict=True))
