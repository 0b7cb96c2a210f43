from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from server.engines.image.checkpoint import Checkpoint
from server.engines.image.lora import layers, read_groups, split_name
from tests.support.tiny_checkpoint import write_tiny_checkpoint
from tests.support.towers import load_tiny

pytestmark = pytest.mark.torch

UNET_BLOCK = "unet_input_blocks_4_1_transformer_blocks_1_attn2_to_k"


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


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_up.weight", "text2_encoder_layers_0_mlp_fc1"),
        ("lora_te2_text_projection.lora_up.weight", "text2_text_projection"),
        ("text_encoder_2.text_model.encoder.layers.1.mlp.fc2.lora_B.weight", "text2_encoder_layers_1_mlp_fc2"),
        ("lora_unet_input_blocks_4_1_transformer_blocks_1_attn2_to_k.alpha", UNET_BLOCK),
    ],
)
def test_names_of_sdxl(name: str, layer: str) -> None:
    assert split_name(name)[0] == layer


def test_layers_of_both_encoders_of_sdxl(tmp_path: Path) -> None:
    found = load_tiny(write_tiny_checkpoint(tmp_path / "x.safetensors", family="sdxl"))
    named = layers(found)
    small, large = found.texts
    assert named["text_encoder_layers_1_mlp_fc1"].module is small.bare.get_submodule("encoder.layers.1.mlp.fc1")
    assert named["text2_encoder_layers_2_mlp_fc1"].module is large.bare.get_submodule("encoder.layers.2.mlp.fc1")
    assert named["text2_text_projection"].module is large.projection
    assert named["unet_input_blocks_3_1_transformer_blocks_0_attn2_to_k"].module is found.unet.get_submodule(
        "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
    )
    assert named["unet_label_emb_0_0"].module is found.unet.get_submodule("add_embedding.linear_1")


def test_the_one_encoder_of_the_refiner_is_the_second(tmp_path: Path) -> None:
    found = load_tiny(write_tiny_checkpoint(tmp_path / "x.safetensors", family="sdxl-refiner"))
    assert "text2_encoder_layers_0_mlp_fc1" in layers(found)
    assert "text_encoder_layers_0_mlp_fc1" not in layers(found)
