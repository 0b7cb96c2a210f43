import pytest
import torch

from server.core.errors import LoadFailed
from server.engines.image.upscaling.compact import build, is_compact
from tests.support.tiny_upscaler import compact_state, rrdb_state

pytestmark = pytest.mark.torch


def test_a_network_of_zeros_repeats_pixels() -> None:
    state = {name: torch.zeros_like(tensor) for name, tensor in compact_state(scale=3).items()}
    net = build(state)
    net.load_state_dict(state, assign=True)
    image = torch.rand(1, 3, 4, 5)
    assert torch.equal(net(image), image.repeat_interleave(3, -1).repeat_interleave(3, -2))


@pytest.mark.parametrize("depth", [0, 1, 4])
def test_shapes_tell_the_network(depth: int) -> None:
    state = compact_state(depth=depth)
    assert is_compact(state)
    assert {name: tensor.shape for name, tensor in build(state).state_dict().items()} == {
        name: tensor.shape for name, tensor in state.items()
    }


def test_others_are_told_apart() -> None:
    assert not is_compact(rrdb_state())
    assert not is_compact({})
    gap = compact_state()
    del gap["body.2.weight"]
    assert not is_compact(gap)


def test_colours_that_do_not_add_up() -> None:
    state = compact_state()
    state["body.6.weight"] = torch.zeros(13, 8, 3, 3)
    with pytest.raises(LoadFailed):
        build(state)
