from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from server.core.errors import InvalidValue
from server.engines.image.checkpoint import Checkpoint
from server.engines.image.control.networks import Network, build, opened, size_of
from server.engines.image.unet_call import UNetInputs
from tests.support.tiny_checkpoint import CHANNELS, TEXT
from tests.support.tiny_controlnet import tiny_adapter_tensors, tiny_control_tensors, write_tiny_controlnet


def network(path: Path, tiny: Checkpoint, name: str = "control", dtype: torch.dtype = torch.float32) -> Network:
    with opened(path, name, allow_pickle=False) as tensors:
        return build(tensors, name, tiny.unet, dtype)


def call() -> UNetInputs:
    draw = torch.Generator().manual_seed(0)
    return UNetInputs(
        inputs=torch.randn(2, 4, 8, 8, generator=draw),
        times=torch.tensor([400.0, 400.0]),
        text=torch.randn(2, 77, TEXT, generator=draw),
        added=None,
        prompted=None,
    )


def outputs(network: Network) -> list[torch.Tensor]:
    hint = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return network.outputs(call(), hint)


def test_both_layouts_and_no_prefix_make_the_same_network(tiny: Checkpoint, tmp_path: Path) -> None:
    first = network(write_tiny_controlnet(tmp_path / "a.safetensors"), tiny)
    bare = network(write_tiny_controlnet(tmp_path / "b.safetensors", prefix=""), tiny)
    save_file(first.module.state_dict(), str(tmp_path / "c.safetensors"))
    other = network(tmp_path / "c.safetensors", tiny)
    assert [tuple(each.shape[1:]) for each in outputs(first)] == [
        *[(CHANNELS, 8, 8)] * 2,
        *[(CHANNELS, 4, 4)] * 3,
    ]
    for one, two, three in zip(outputs(first), outputs(bare), outputs(other), strict=True):
        assert torch.equal(one, two)
        assert torch.equal(one, three)


def test_precision_and_size(tiny: Checkpoint, tmp_path: Path) -> None:
    path = write_tiny_controlnet(tmp_path / "a.safetensors")
    half = network(path, tiny, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in half.module.parameters()} == {torch.bfloat16}
    assert not any(parameter.requires_grad for parameter in half.module.parameters())
    shapes = {name: tuple(tensor.shape) for name, tensor in tiny_control_tensors().items()}
    assert size_of(shapes, torch.float16) == sum(each.nelement() * 2 for each in half.module.parameters())


def test_softness(tiny: Checkpoint, tmp_path: Path) -> None:
    control = network(write_tiny_controlnet(tmp_path / "a.safetensors"), tiny)
    assert control.softness(13) == [0.825 ** (12 - place) for place in range(13)]
    assert not control.is_pooled
    assert network(tmp_path / "a.safetensors", tiny, name="control_v11e_sd15_Shuffle").is_pooled
    save_file(tiny_adapter_tensors(), str(tmp_path / "t.safetensors"))
    adapter = network(tmp_path / "t.safetensors", tiny)
    assert adapter.kind == "adapter"
    assert adapter.softness(4) == [0.25, 0.62, 0.825, 1.0]
    assert [len(each) for each in outputs(adapter)] == [2, 2]


def misfits() -> dict[str, tuple[dict[str, torch.Tensor], str]]:
    tensors = tiny_control_tensors()
    wide = tiny_control_tensors(text=TEXT + 8)
    inputs = tensors | {"control_model.input_blocks.0.0.weight": torch.zeros(CHANNELS, 9, 3, 3)}
    vector = tensors | {"control_model.label_emb.0.0.weight": torch.zeros(128, 64)}
    damaged = {name: tensor for name, tensor in tensors.items() if "zero_convs.2" not in name}
    stranger = tensors | {"control_model.zero_convs.9.0.weight": torch.zeros(1)}
    adapter = tiny_adapter_tensors()
    adapter["conv_in.weight"] = torch.zeros(16, 192, 3, 3)
    return {
        "text": (wide, "takes text of 24 values a token, the checkpoint 16"),
        "inputs": (inputs, "other inputs than the checkpoint"),
        "vector": (vector, "other inputs than the checkpoint"),
        "damaged": (damaged, "lacks controlnet_down_blocks.2"),
        "stranger": (stranger, "cannot be used"),
        "adapter": (adapter, "not served"),
    }


@pytest.mark.parametrize("kind", misfits())
def test_what_does_not_fit_is_told(kind: str, tiny: Checkpoint, tmp_path: Path) -> None:
    tensors, words = misfits()[kind]
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, str(tmp_path / "x.safetensors"))
    with pytest.raises(InvalidValue, match=words) as caught:
        network(tmp_path / "x.safetensors", tiny)
    assert caught.value.fact("param") == "control"
    assert "'control'" in caught.value.message


def test_pickles_are_refused_unless_they_are_allowed(tiny: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "control.pth"
    torch.save({"state_dict": tiny_control_tensors()}, path)
    with pytest.raises(InvalidValue, match="pickle"):
        network(path, tiny)
    with opened(path, "control", allow_pickle=True) as tensors:
        assert build(tensors, "control", tiny.unet, torch.float32).kind == "controlnet"
