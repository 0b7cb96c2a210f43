"""Families are told by structure, whatever the widths."""

import pytest

from server.registry.probe.base import BrokenModel, NotMine
from server.registry.probe.checkpoint import probe_checkpoint
from server.registry.probe.safetensors import Tensor, read_safetensors
from tests.support.model_files import sd1
from tests.support.shared import SHARED, needs_shared

UNET = "model.diffusion_model."


def tensors(shapes, dtype="F16"):
    return {name: Tensor(dtype, tuple(shape), 2) for name, shape in shapes.items()}


def unet(*, linear=False, first=True, vector=False, deep=False):
    shapes = {f"{UNET}input_blocks.0.0.weight": (8, 4, 3, 3)}
    if first:
        shapes[f"{UNET}input_blocks.1.1.proj_in.weight"] = (8, 8) if linear else (8, 8, 1, 1)
    if vector:
        shapes[f"{UNET}label_emb.0.0.weight"] = (8, 8)
    if vector:
        shapes |= {f"{UNET}input_blocks.{block}.0.in_layers.0.weight": (8,) for block in range(1, 9)}
    if deep:
        shapes[f"{UNET}input_blocks.8.1.norm.weight"] = (8,)
    return shapes


@pytest.mark.parametrize(
    ("shapes", "family"),
    [
        (sd1(64, 64), "sd1"),
        (sd1(320, 768), "sd1"),
        (unet(), "sd1"),
        (unet(linear=True), "sd2"),
        ({**unet(linear=True), "cond_stage_model.model.transformer.resblocks.0.ln_1.weight": (8,)}, "sd2"),
        ({**unet(), "cond_stage_model.roberta.embeddings.word_embeddings.weight": (8, 8)}, "altdiffusion"),
        ({**unet(first=False), "conditioner.embedders.1.model.ln_final.weight": (8,)}, "sdxl"),
        ({**unet(first=False), "conditioner.embedders.0.model.ln_final.weight": (8,)}, "sdxl_refiner"),
        (unet(first=False, vector=True, deep=True), "sdxl"),
        (unet(first=False, vector=True), "sdxl_refiner"),
        (
            {f"{UNET}x_embedder.proj.weight": (8, 16, 2, 2), f"{UNET}joint_blocks.0.x_block.attn.qkv.weight": (8, 8)},
            "sd3",
        ),
        ({f"{UNET}double_blocks.0.img_attn.qkv.weight": (8, 8)}, "flux"),
        ({"double_blocks.0.img_attn.qkv.weight": (8, 8)}, "flux"),
        ({f"{UNET}something.new": (8,)}, ""),
    ],
)
def test_families(shapes, family):
    assert probe_checkpoint(tensors(shapes)).family == family


def test_channels_and_context_width_come_from_shapes():
    facts = probe_checkpoint(tensors(sd1(32, 48, channels=9)))
    assert (facts.family, facts.in_channels, facts.context_width) == ("sd1", 9, 48)


def test_missing_parts_are_noticed():
    bare = probe_checkpoint(tensors(sd1(vae=False, encoder=False)))
    full = probe_checkpoint(tensors(sd1()))
    assert (bare.has_vae, bare.has_text_encoder, bare.bytes_vae, bare.bytes_text_encoder) == (False, False, 0, 0)
    assert (full.has_vae, full.has_text_encoder) == (True, True)
    assert (full.bytes_unet, full.bytes_vae, full.bytes_text_encoder) == (6, 4, 2)


def test_the_type_is_that_of_most_bytes():
    mixed = {**tensors(sd1()), f"{UNET}out.2.bias": Tensor("F32", (4,), 1)}
    assert probe_checkpoint(mixed).dtype == "F16"


def test_other_tensors_are_not_mine_and_a_lone_unet_is_broken():
    with pytest.raises(NotMine):
        probe_checkpoint(tensors({"decoder.conv_in.weight": (8, 4, 3, 3)}))
    with pytest.raises(BrokenModel, match="diffusers"):
        probe_checkpoint(
            tensors({"conv_in.weight": (8, 4, 3, 3), "down_blocks.0.resnets.0.conv1.weight": (8, 8, 3, 3)})
        )


@needs_shared
@pytest.mark.golden
def test_the_tiny_checkpoint_is_sd1():
    path = SHARED / "golden" / "models" / "Stable-diffusion" / "tiny.safetensors"
    with path.open("rb") as file:
        facts = probe_checkpoint(read_safetensors(file, path.stat().st_size).tensors)
    assert (facts.family, facts.in_channels, facts.context_width, facts.dtype) == ("sd1", 4, 64, "F16")
    assert facts.has_vae and facts.has_text_encoder
    assert 0.99 < (facts.bytes_unet + facts.bytes_vae + facts.bytes_text_encoder) / path.stat().st_size <= 1
