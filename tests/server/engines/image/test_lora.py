from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from server.engines.image.checkpoint import Checkpoint
from server.engines.image.lora import layers, read_groups, split_name

pytestmark = pytest.mark.torch


@pytest.mark.parametrize(
    ("name", "layer", "last"),
    [
        ("lora_unet_mid_block_attentions_0_proj_in.alpha", "unet_mid_block_attentions_0_proj_in", "alpha"),
        ("lora_unet_input_blocks_1_1_proj_in.lora_down.weight", "unet_input_blocks_1_1_proj_in", "lora_down"),
        ("lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight", "text_encoder_layers_0_mlp_fc1", "lora_up"),
        ("lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_up.weight", "text_encoder_layers_0_mlp_fc1", "lora_up"),
        ("unet.conv_in.lora_A.weight", "unet_conv_in", "lora_A"),
        ("text_encoder.text_model.encoder.layers.1.mlp.fc2.lora_B.weight", "text_encoder_layers_1_mlp_fc2", "lora_B"),
        ("lora_unet_conv_in.weight", "unet_conv_in", "weight"),
        ("lora_unet_conv_in.on_input", "unet_conv_in", "on_input"),
        ("something_else.lora_up.weight", None, "lora_up"),
        ("lora_unet_conv_in.surprise", None, ""),
        ("", None, ""),
    ],
)
def test_names(name: str, layer: str | None, last: str) -> None:
    assert split_name(name) == (layer, last)


def test_layers_have_diffusers_and_original_names(tiny: Checkpoint) -> None:
    found = layers(tiny)
    convolution = found["unet_down_blocks_0_resnets_0_conv1"]
    assert convolution is found["unet_input_blocks_1_0_in_layers_2"]
    assert convolution.module is tiny.unet.get_submodule("down_blocks.0.resnets.0.conv1")
    assert not convolution.is_text
    assert found["text_encoder_layers_1_self_attn_q_proj"].is_text
    assert "unet_down_blocks_0" not in found


def test_groups(tmp_path: Path) -> None:
    tensors = {
        "lora_unet_conv_in.lora_up.weight": torch.ones(2, 1),
        "lora_unet_conv_in.lora_down.weight": torch.ones(1, 2),
        "lora_unet_conv_in.alpha": torch.tensor(1.0),
        "unknown.thing": torch.ones(1),
    }
    save_file(tensors, str(tmp_path / "x.safetensors"))
    groups = read_groups(tmp_path / "x.safetensors", allow_pickle=False)
    assert {name: set(group) for name, group in groups.items()} == {"unet_conv_in": {"lora_up", "lora_down", "alpha"}}
