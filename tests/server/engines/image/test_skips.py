import pytest
import torch
from torch.nn import functional

from server.engines.image.checkpoint import Checkpoint
from server.engines.image.skips import SkipMatchingUpsample

pytestmark = pytest.mark.torch


def test_upsamplers_double_before_they_fit(tiny: Checkpoint) -> None:
    (upsampler,) = [module for module in tiny.unet.modules() if isinstance(module, SkipMatchingUpsample)]
    x = torch.randn(1, upsampler.channels, 2, 3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        doubled = upsampler(x)
        assert doubled.shape[-2:] == (4, 6)
        assert torch.equal(upsampler(x, (4, 6)), doubled)
        assert torch.equal(upsampler(x, (3, 5)), functional.interpolate(doubled, size=(3, 5), mode="nearest"))


@pytest.mark.parametrize("size", [(2, 3), (3, 5), (7, 2)])
def test_odd_latents_go_through(tiny: Checkpoint, size: tuple[int, int]) -> None:
    with torch.no_grad():
        out = tiny.unet(torch.zeros(1, 4, *size), torch.tensor([5.0]), torch.zeros(1, 77, 16)).sample
    assert out.shape == (1, 4, *size)
