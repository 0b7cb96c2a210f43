import pytest
import torch

from server.core.errors import Broken
from server.engines.image import checkpoint
from server.engines.image.placement import Placement
from server.engines.image.vae import Vae
from tests.server.engines.image.conftest import FLOAT32

pytestmark = pytest.mark.torch

PLACE = Placement(device=torch.device("cpu"), precision=FLOAT32)
LATENT = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0))


class Fussy(torch.nn.Module):
    """A VAE that overflows in half precision, or in any."""

    def __init__(self, *, always: bool) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1, dtype=torch.float16))
        self.always = always

    @property
    def dtype(self) -> torch.dtype:
        return self.weight.dtype

    def decode(self, latent: torch.Tensor) -> object:
        assert latent.dtype == self.dtype
        sample = torch.full((1, 3, 8, 8), self.answer)
        return type("Decoded", (), {"sample": sample})()

    def encode(self, picture: torch.Tensor) -> object:
        assert picture.dtype == self.dtype
        figures = {"mean": torch.full((1, 4, 1, 1), self.answer), "std": torch.ones(1, 4, 1, 1)}
        posterior = type("Posterior", (), figures)
        return type("Encoded", (), {"latent_dist": posterior})()

    @property
    def answer(self) -> float:
        return float("nan") if self.always or self.dtype != torch.float32 else 0.5


def test_sizes_and_scale(tiny: checkpoint.Checkpoint) -> None:
    picture = Vae(tiny.vae, PLACE, 0.18215).decode(LATENT)
    assert picture.shape == (3, 24, 40)
    assert torch.allclose(Vae(tiny.vae, PLACE, 0.5).decode(LATENT * 0.5 / 0.18215), picture, atol=1e-5)


def test_encoding_is_the_mean_without_noise(tiny: checkpoint.Checkpoint) -> None:
    vae = Vae(tiny.vae, PLACE, 2.0)
    picture = torch.rand(3, 16, 24, generator=torch.Generator().manual_seed(1)) * 2 - 1
    latent = vae.encode(picture, None)
    assert latent.shape == (4, 2, 3)
    with torch.no_grad():
        assert torch.allclose(latent, tiny.vae.encode(picture[None]).latent_dist.mean[0] * 2.0)
    generator = torch.Generator().manual_seed(5)
    sampled = [vae.encode(picture, generator) for _ in range(2)]
    assert not torch.equal(sampled[0], sampled[1])


def test_half_precision_falls_back_once_and_stays() -> None:
    model = Fussy(always=False)
    vae = Vae(model, PLACE, 1.0)  # type: ignore[arg-type]
    assert float(vae.decode(LATENT).max()) == 0.5
    assert model.dtype == torch.float32
    assert float(vae.decode(LATENT).max()) == 0.5


def test_encoding_falls_back_as_well() -> None:
    model = Fussy(always=False)
    latent = Vae(model, PLACE, 2.0).encode(torch.zeros(3, 8, 8), None)  # type: ignore[arg-type]
    assert latent.flatten().tolist() == [1.0] * 4
    assert model.dtype == torch.float32


def test_a_vae_without_numbers_is_an_error() -> None:
    vae = Vae(Fussy(always=True), PLACE, 1.0)  # type: ignore[arg-type]
    with pytest.raises(Broken, match="VAE made a picture"):
        vae.decode(LATENT)
    with pytest.raises(Broken, match="VAE made a latent"):
        vae.encode(torch.zeros(3, 8, 8), None)


def test_another_model_is_called_in_the_same_way(tiny: checkpoint.Checkpoint) -> None:
    first = Vae(tiny.vae, PLACE, 0.25)
    assert torch.equal(first.of(tiny.vae).decode(LATENT), first.decode(LATENT))
