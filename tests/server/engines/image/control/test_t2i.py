import pytest
import torch
from diffusers.models.adapter import T2IAdapter

from server.core.errors import LoadFailed
from server.engines.image.control import t2i
from tests.support.tiny_checkpoint import CHANNELS
from tests.support.tiny_controlnet import tiny_adapter_tensors


def loaded(tensors: dict[str, torch.Tensor], levels: int = 2) -> t2i.AdapterNet:
    names = t2i.names({name: tuple(tensor.shape) for name, tensor in tensors.items()})
    renamed = {names[name]: tensor for name, tensor in tensors.items()}
    net = t2i.build({name: tuple(tensor.shape) for name, tensor in renamed.items()}, levels)
    net.load_state_dict(renamed, assign=True)
    return net.requires_grad_(False)


@pytest.mark.parametrize("size", [(64, 64), (72, 40)])
def test_features_are_those_of_diffusers(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    theirs = T2IAdapter(in_channels=3, channels=[CHANNELS, 2 * CHANNELS], num_res_blocks=2, downscale_factor=8)
    theirs.requires_grad_(False)
    net = loaded(theirs.state_dict())
    hint = torch.rand(1, 3, *size)
    assert net.widths == (CHANNELS, 2 * CHANNELS)
    for mine, other in zip(net(hint), theirs(hint), strict=True):
        assert torch.allclose(mine, other, atol=1e-5)


def test_files_in_the_original_layout() -> None:
    net = loaded(tiny_adapter_tensors(channels=1))
    assert net.channels == 1
    assert [tuple(each.shape) for each in net(torch.rand(1, 1, 64, 48))] == [(1, CHANNELS, 8, 6), (1, CHANNELS, 4, 3)]


def test_what_is_one() -> None:
    assert t2i.is_adapter({"body.0.block1.weight": ()})
    assert t2i.is_adapter({"adapter.body.0.resnets.0.block1.weight": ()})
    assert not t2i.is_adapter({"input_blocks.0.0.weight": ()})


@pytest.mark.parametrize(
    "change",
    [
        {"body.4.block1.weight": (32, 32, 3, 3)},
        {"conv_in.weight": (32, 3 * 256, 3, 3)},
        {"body.0.skep.weight": (32, 32, 1, 1)},
        {"conv_in.weight": (16, 3 * 64, 3, 3)},
    ],
)
def test_other_kinds_are_refused(change: dict[str, tuple[int, ...]]) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in tiny_adapter_tensors().items()}
    with pytest.raises(LoadFailed):
        t2i.build(shapes | change, 2)
