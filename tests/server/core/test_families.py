"""Families by tensors and by pipelines."""

import pytest

from server.core.families import MARKS, PREFIX, family_of_file, family_of_pipeline, file_width, token_width


@pytest.mark.parametrize("family", list(MARKS))
@pytest.mark.parametrize("prefix", ["", PREFIX])
def test_a_family_is_told_by_its_marks(family: str, prefix: str) -> None:
    assert family_of_file({prefix + mark for mark in MARKS[family]} | {"other"}) == family


def test_no_mark_is_enough_of_another_family() -> None:
    for family, marks in MARKS.items():
        if len(marks) > 1:
            assert family_of_file(marks[1:]) != family
    assert family_of_file({"input_blocks.0.0.weight"}) == ""


@pytest.mark.parametrize(
    ("pipeline", "family"),
    [
        ("StableDiffusion3Pipeline", "sd3"),
        ("Flux2KleinPipeline", "flux2"),
        ("QwenImagePipeline", "qwen-image"),
        ("PixArtSigmaPipeline", "pix-art-sigma"),
        ("SanaPipeline", "sana"),
        ("CogView4Pipeline", "cog-view-4"),
        ("PRXPipeline", "prx"),
    ],
)
def test_a_pipeline_is_of_a_family(pipeline: str, family: str) -> None:
    assert family_of_pipeline(pipeline) == family


@pytest.mark.parametrize(
    ("config", "width"),
    [
        ({"num_attention_heads": 24, "attention_head_dim": 128, "dim": 5}, 3072),
        ({"dim": 3840}, 3840),
        ({"hidden_size": 2304, "num_attention_heads": 24}, 2304),
        ({"num_attention_heads": "x"}, 0),
        ({}, 0),
    ],
)
def test_the_width_of_a_transformer(config: dict[str, object], width: int) -> None:
    assert token_width(config) == width


def test_the_width_of_a_single_file() -> None:
    shapes = {"double_blocks.0.img_attn.qkv.weight": (9216, 3072), "img_in.weight": (3072, 64)}
    assert file_width(shapes) == 3072
    assert file_width({"img_in.weight": (3072, 64)}) == 0
