"""Folders of the diffusers library, told by small JSON files and the headers of their weights."""

import json

import pytest

from server.core.models import ModelKind, Runtime
from server.registry.probe.base import BrokenModel
from server.registry.probe.diffusers import PARTS, probe_folder, weight_files
from server.registry.probe.identify import identify
from tests.support.model_files import write_diffusers_folder, write_flux_folder, write_safetensors_header

PAIR = ["transformers", "CLIPTextModel"]


def changed(folder, name, **fields):
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.fixture
def folder(tmp_path):
    return write_diffusers_folder(tmp_path / "sd")


def test_facts_come_from_configurations_and_headers(folder):
    found = identify(folder / "model_index.json", ModelKind.CHECKPOINT, allow_pickle=False)
    assert (found.kind, found.runtime, found.architecture) == (ModelKind.CHECKPOINT, Runtime.DIFFUSION, "sd1")
    facts = found.image
    assert (facts.family, facts.in_channels, facts.context_width, facts.dtype) == ("sd1", 4, 768, "F16")
    assert (facts.bytes_unet, facts.bytes_vae, facts.bytes_text_encoder) == (16, 8, 4)


@pytest.mark.parametrize(
    ("index", "unet", "architecture"),
    [
        ({}, {"use_linear_projection": True}, "sd2"),
        ({"text_encoder_2": PAIR}, {}, "sdxl"),
        ({"text_encoder_2": PAIR, "text_encoder": [None, None]}, {}, "sdxl_refiner"),
        ({}, {"in_channels": 9}, "sd1-inpaint"),
        ({"text_encoder_2": PAIR}, {"in_channels": 8}, "sdxl-pix2pix"),
    ],
)
def test_families(folder, index, unet, architecture):
    write_safetensors_header(folder / "text_encoder_2" / "model.safetensors", {"x.weight": ("F16", (2,))})
    changed(folder, "model_index.json", **index)
    changed(folder, "unet/config.json", **unet)
    assert probe_folder(folder / "model_index.json").architecture == architecture


def test_half_precision_files_count_only_when_there_are_no_others(folder):
    write_safetensors_header(folder / "unet" / "x.fp16.safetensors", {"x.weight": ("F16", (100,))})
    assert [path.name for path in weight_files(folder / "unet")] == ["diffusion_pytorch_model.safetensors"]
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    assert [path.name for path in weight_files(folder / "unet")] == ["x.fp16.safetensors"]


@pytest.mark.parametrize(
    ("gone", "reason"),
    [
        ("vae/diffusion_pytorch_model.safetensors", "the VAE has no weights"),
        ("text_encoder/model.safetensors", "the text encoder has no weights"),
        ("unet/config.json", "lacks unet/config.json"),
    ],
)
def test_what_is_missing_is_named(folder, gone, reason):
    (folder / gone).unlink()
    with pytest.raises(BrokenModel, match=reason):
        probe_folder(folder / "model_index.json")


@pytest.mark.parametrize("text", ["", "[]", "{", "\x00", '"x"'])
def test_damaged_indexes_are_broken(folder, text):
    (folder / "model_index.json").write_text(text)
    with pytest.raises(BrokenModel, match="no readable JSON"):
        probe_folder(folder / "model_index.json")


def test_other_pipelines_and_damaged_weights_are_broken(folder):
    (folder / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}")
    with pytest.raises(BrokenModel, match="vae/diffusion_pytorch_model"):
        probe_folder(folder / "model_index.json")
    changed(folder, "model_index.json", unet=[None, None], _class_name="FluxPipeline")
    with pytest.raises(BrokenModel, match="FluxPipeline"):
        probe_folder(folder / "model_index.json")


@pytest.fixture
def flux(tmp_path):
    return write_flux_folder(tmp_path / "flux")


def test_later_families_are_told_by_their_pipeline(flux):
    found = identify(flux / "model_index.json", ModelKind.CHECKPOINT, allow_pickle=False)
    assert (found.kind, found.runtime, found.architecture) == (ModelKind.CHECKPOINT, Runtime.DIFFUSION, "flux")
    facts = found.image
    assert (facts.family, facts.in_channels, facts.context_width, facts.dtype) == ("flux", 64, 4096, "BF16")
    assert (facts.bytes_unet, facts.bytes_vae, facts.bytes_text_encoder) == (64, 16, 8 + 4)
    assert (facts.token_width, facts.distilled) == (3072, True)


@pytest.mark.parametrize(
    ("fields", "facts"),
    [
        ({"_class_name": "ZImagePipeline"}, ("z-image", True)),
        ({"_class_name": "BrandNewPipeline"}, ("brand-new", True)),
    ],
)
def test_pipelines_that_nobody_knows_yet_have_a_name(flux, fields, facts):
    changed(flux, "model_index.json", **fields)
    found = probe_folder(flux / "model_index.json").image
    assert (found.family, found.distilled) == facts


@pytest.mark.parametrize(
    "fields",
    [
        {"_class_name": "WanPipeline"},
        {"_class_name": "FluxFillPipeline"},
        {"_class_name": "QwenImageEditPipeline"},
        {"_class_name": "StableAudioPipeline"},
        {"_class_name": ["pipeline.py", "Mine"]},
        {"transformer": [None, None]},
        {"vae": [None, None]},
    ],
)
def test_pipelines_for_something_else_are_broken(flux, fields):
    changed(flux, "model_index.json", **fields)
    with pytest.raises(BrokenModel, match="not served"):
        probe_folder(flux / "model_index.json")


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder_2"])
def test_a_missing_part_of_a_later_family_is_named(flux, part):
    next((flux / part).glob("*.safetensors")).unlink()
    with pytest.raises(BrokenModel, match=f"{PARTS.get(part, part)} has no weights"):
        probe_folder(flux / "model_index.json")
