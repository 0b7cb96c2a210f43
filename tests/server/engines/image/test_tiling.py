import pytest
import torch
from torch import nn

from server.engines.image.tiling import wrapped

pytestmark = pytest.mark.torch


def test_convolutions_wrap_around_while_it_lasts() -> None:
    net = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.ReLU())
    x = torch.randn(1, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    shifted = torch.roll(x, (2, 3), (2, 3))
    with torch.no_grad():
        before = net(x)
        with wrapped([net], True):
            assert torch.allclose(torch.roll(net(x), (2, 3), (2, 3)), net(shifted), atol=1e-6)
            assert not torch.equal(net(x), before)
        assert torch.equal(net(x), before)


def test_padding_comes_back_after_an_error() -> None:
    net = nn.Conv2d(1, 1, 3, padding=1)
    with pytest.raises(KeyError), wrapped([net], True):
        raise KeyError
    assert net.padding_mode == "zeros"


def test_nothing_changes_unless_asked() -> None:
    net = nn.Conv2d(1, 1, 3, padding=1)
    with wrapped([net], False):
        assert net.padding_mode == "zeros"
