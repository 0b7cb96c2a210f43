import sys
from importlib.util import find_spec

import pytest
import torch

from server.core.errors import LoadFailed
from server.engines.image.upscaling.nets import open_network
from server.engines.image.upscaling.spandrel_nets import open_state
from tests.support.tiny_upscaler import compact_state, rrdb_state, write_upscaler

pytestmark = pytest.mark.torch
HERE = find_spec("spandrel") is not None
needs_spandrel = pytest.mark.skipif(not HERE, reason="spandrel is not installed")

IMAGE = torch.rand(1, 3, 16, 12, generator=torch.Generator().manual_seed(2))


@pytest.mark.skipif(HERE, reason="spandrel is installed")
def test_without_spandrel_it_is_said_what_is_missing() -> None:
    with pytest.raises(LoadFailed, match=r"hearth\[upscalers\]"):
        open_state({"x": torch.zeros(1)}, "swin.pth")


@needs_spandrel
@pytest.mark.parametrize(("ups", "fold"), [(2, 1), (1, 1), (2, 2), (2, 4)])
def test_our_networks_are_theirs(tmp_path, ups: int, fold: int) -> None:  # type: ignore[no-untyped-def]
    state = rrdb_state(ups=ups, fold=fold, growth=32)
    ours = open_network(write_upscaler(tmp_path, state=state), allow_pickle=False)
    theirs = open_state(state, "x")
    assert ours.scale == theirs.scale
    assert torch.equal(ours.run(IMAGE).clamp(0, 1), theirs(IMAGE))


@needs_spandrel
def test_our_compact_network_is_theirs(tmp_path) -> None:  # type: ignore[no-untyped-def]
    state = compact_state(scale=4)
    ours = open_network(write_upscaler(tmp_path, state=state), allow_pickle=False)
    assert torch.equal(ours.run(IMAGE).clamp(0, 1), open_state(state, "x")(IMAGE))


@needs_spandrel
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_network_that_spandrel_alone_knows() -> None:
    from spandrel.architectures.SwinIR import SwinIR

    torch.manual_seed(0)
    swin = SwinIR(upscale=2, window_size=4, depths=[2], embed_dim=8, num_heads=[2], upsampler="pixelshuffledirect")
    found = open_state(swin.state_dict(), "swin")
    assert found.scale == 2
    assert found(IMAGE).shape == (1, 3, 32, 24)


@needs_spandrel
def test_a_file_that_is_no_network() -> None:
    with pytest.raises(LoadFailed, match="not known"):
        open_state({"x": torch.zeros(1)}, "odd")


@needs_spandrel
@pytest.mark.skipif(find_spec("torchvision") is not None, reason="torchvision is installed")
def test_torchvision_is_not_there_afterwards() -> None:
    open_state(compact_state(), "x")
    assert not [name for name in sys.modules if name.split(".")[0] == "torchvision"]
