import pytest
import torch

from server.engines.image.upscaling.rrdb import RrdbNet, build, canonical, is_rrdb
from tests.support.tiny_upscaler import compact_state, renamed, rrdb_state

pytestmark = pytest.mark.torch


def test_a_network_without_residuals_is_its_upsampling() -> None:
    """With all weights zero but a centre tap per layer, the result can be written down: nearest neighbours."""
    net = RrdbNet(width=3, growth=2, blocks=1, ups=1, fold=1)
    for tensor in net.parameters():
        tensor.data.zero_()
    for layer in (net.conv_first, net.ups[0], net.conv_hr, net.conv_last):
        for channel in range(3):
            layer.weight.data[channel, channel, 1, 1] = 1.0  # type: ignore[union-attr, operator, index]
    image = torch.rand(1, 3, 5, 4)
    found = net(image)
    assert torch.allclose(found, image.repeat_interleave(2, -1).repeat_interleave(2, -2))


def test_a_block_adds_a_fifth_of_what_its_parts_make() -> None:
    net = RrdbNet(width=2, growth=1, blocks=1, ups=0, fold=1)
    block = net.body[0]
    for tensor in block.parameters():
        tensor.data.zero_()
    block.rdb3.conv5.bias.data.fill_(1.0)  # type: ignore[union-attr, operator]
    x = torch.rand(1, 2, 4, 4)
    assert torch.allclose(block(x), x + 0.2 * (x + 0.2 * 1.0))


def test_names_of_other_networks_stay() -> None:
    state = compact_state()
    assert canonical(state).keys() == state.keys()
    assert not is_rrdb(canonical(state))


@pytest.mark.parametrize("ups", [0, 1, 2, 3])
def test_shapes_tell_the_network(ups: int) -> None:
    state = canonical(renamed(rrdb_state(ups=ups, blocks=3), "first"))
    net = build(state)
    assert {name: tensor.shape for name, tensor in net.state_dict().items()} == {
        name: tensor.shape for name, tensor in state.items()
    }
