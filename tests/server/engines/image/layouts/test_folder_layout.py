from pathlib import Path
from typing import Any

import pytest

from server.core.errors import LoadFailed
from server.engines.image.layouts import folder_layout as layout
from server.engines.image.layouts.family import SD1, SD2, SDXL, SDXL_REFINER

PAIR = ["transformers", "CLIPTextModel"]
NONE = [None, None]
PLAIN = {"unet": ["diffusers", "UNet2DConditionModel"], "text_encoder": PAIR}


@pytest.mark.parametrize(
    ("index", "unet", "family"),
    [
        ({}, {}, SD1),
        ({}, {"use_linear_projection": True}, SD2),
        ({"text_encoder_2": PAIR}, {"use_linear_projection": True}, SDXL),
        ({"text_encoder_2": PAIR, "text_encoder": NONE}, {}, SDXL_REFINER),
        ({"text_encoder_2": NONE}, {}, SD1),
    ],
)
def test_families(index: dict[str, Any], unet: dict[str, Any], family: Any) -> None:
    assert layout.family_of(PLAIN | index, {"cross_attention_dim": 768} | unet, Path()) is family


@pytest.mark.parametrize(
    ("index", "unet"),
    [
        ({"_class_name": "KandinskyPipeline"}, {"cross_attention_dim": [768, 768]}),
        ({"text_encoder": NONE}, {"cross_attention_dim": 768}),
    ],
)
def test_others_are_refused(index: dict[str, Any], unet: dict[str, Any]) -> None:
    with pytest.raises(LoadFailed):
        layout.family_of(PLAIN | index, unet, Path())


def test_text_encoders_in_the_order_of_the_family() -> None:
    assert layout.text_folders(SD1) == ("text_encoder",)
    assert layout.text_folders(SDXL) == ("text_encoder", "text_encoder_2")
    assert layout.text_folders(SDXL_REFINER) == ("text_encoder_2",)
    assert layout.text_rule(SD2, 0).from_end == 1
    assert layout.text_rule(SDXL, 1) is SDXL.texts[1]


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"block_out_channels": [1, 2]}, "2 levels"),
        ({"block_out_channels": [1] * 4, "latent_channels": 16}, "16 latent channels"),
        ({"block_out_channels": [1] * 4, "shift_factor": 0.1}, "shifts"),
        ({"block_out_channels": [1] * 4, "latents_mean": [0.1]}, "shifts"),
        ({}, "0 levels"),
    ],
)
def test_vaes_of_another_kind_are_refused(config: dict[str, Any], sentence: str) -> None:
    with pytest.raises(LoadFailed, match=sentence):
        layout.check_vae(config)
    layout.check_vae({"block_out_channels": [1] * 4})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("encoder.mid_block.attentions.0.query.bias", "encoder.mid_block.attentions.0.to_q.bias"),
        ("decoder.mid_block.attentions.0.proj_attn.weight", "decoder.mid_block.attentions.0.to_out.0.weight"),
        ("decoder.mid_block.attentions.0.to_q.weight", "decoder.mid_block.attentions.0.to_q.weight"),
        ("decoder.conv_in.weight", "decoder.conv_in.weight"),
    ],
)
def test_old_names_in_vaes(old: str, new: str) -> None:
    assert layout.vae_name(old) == new


@pytest.mark.parametrize(
    "unet",
    [
        {},
        {"down_block_types": ["SimpleCrossAttnDownBlock2D"], "block_out_channels": [8]},
        {
            "down_block_types": ["CrossAttnDownBlock2D"],
            "block_out_channels": [8],
            "transformer_layers_per_block": [[1, 2]],
        },
    ],
)
def test_structures_that_single_files_never_have_get_no_names(unet: dict[str, Any]) -> None:
    assert layout.single_file_names(unet, ["conv_in.weight"]) == {}


@pytest.mark.parametrize(("value", "read"), [(2, 2.0), (0.5, 0.5), (0, None), (True, None), ("x", None), (None, None)])
def test_numbers(value: object, read: float | None) -> None:
    assert layout.number({"x": value}, "x") == read
