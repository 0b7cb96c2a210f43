import numpy as np
import pytest
import torch
from PIL import Image

from server.engines.image.control.restoring import Restored, laid_into, open_cells
from server.engines.image.guidance import Eps
from server.engines.image.sigma_table import alphas_cumprod

ALPHAS = alphas_cumprod(0.00085, 0.012)


class Echo:
    """A model that takes every latent to be 5, in both views."""

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return torch.full_like(x, 5.0)

    def eps(self, x: torch.Tensor, t: float) -> Eps:
        alpha = ALPHAS[int(t)]
        noise = (x - alpha.sqrt() * 5.0) / (1 - alpha).sqrt()
        return Eps(noise, noise)


def restored(share: float = 1.0) -> Restored:
    shut = torch.zeros(1, 1, 2, 2)
    shut[..., 0] = 1
    return Restored(old=torch.full((1, 4, 2, 2), -3.0), open=shut, share=share, alphas=ALPHAS)


@pytest.mark.parametrize("share, wanted", [(1.0, -3.0), (0.5, 1.0), (0.0, 5.0)])
def test_what_is_shut_stays_as_it_was(share: float, wanted: float) -> None:
    x = torch.randn(3, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    model = restored(share).around(Echo())
    made = model(x, torch.tensor(2.0))
    assert made[..., 0].unique().tolist() == [5.0]
    assert made[..., 1].unique().tolist() == [wanted]
    alpha = ALPHAS[500]
    for noise in model.eps(x, 500.4):
        x0 = (x - (1 - alpha).sqrt() * noise) / alpha.sqrt()
        assert torch.allclose(x0, made, atol=1e-4)


def test_cells_are_open_a_little_beyond_the_edge() -> None:
    mask = np.zeros((32, 32), dtype=np.uint8)
    mask[8:16, 8:16] = 255
    cells = open_cells(mask)[0, 0]
    assert cells.tolist() == [[1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0]]
    mask[:] = 0
    mask[10:14, 10:14] = 255
    assert open_cells(mask)[0, 0].sum() == 1


def test_old_pixels_around_the_mask() -> None:
    map_ = np.full((40, 40, 4), 10, dtype=np.uint8)
    map_[:, :, 3] = 0
    map_[10:20, 10:20, 3] = 255
    made = np.asarray(laid_into(Image.new("RGB", (40, 40), (200, 200, 200)), map_))
    assert (made[12:18, 12:18] == 200).all()
    assert (made[:3] == 10).all()
    assert 10 < made[15, 22, 0] < 200
    other = Image.new("RGB", (20, 20))
    assert laid_into(other, map_) is other
