"""What a file is, given what its folder is for: content decides, and nothing is ever unpickled."""

import hashlib
import io
import os
import pickle
import zipfile

import pytest

from server.core.models import ModelKind, Runtime
from server.registry.probe.base import BrokenModel, NotMine
from server.registry.probe.identify import PICKLE_REFUSED, identify
from tests.support.model_files import lora, sd1, typed, write_gguf, write_safetensors_header


def ask(path, kind, *, allow_pickle=False):
    return identify(path, kind, allow_pickle=allow_pickle)


def put(path, data: bytes):
    path.write_bytes(data)
    return path


class Trap:
    def __reduce__(self):
        return (os.mkdir, ("trap-was-sprung",))


def pickled_zip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Trap()))
    return out.getvalue()


@pytest.mark.parametrize("data", [pickle.dumps(Trap()), pickled_zip()], ids=["pickle", "zip"])
@pytest.mark.parametrize("name", ["model.ckpt", "model.SafeTensors"])
def test_pickles_are_listed_and_refused_and_never_run(tmp_path, monkeypatch, name, data):
    monkeypatch.chdir(tmp_path)
    path = put(tmp_path / name, data)
    assert ask(path, ModelKind.CHECKPOINT).broken == PICKLE_REFUSED
    allowed = ask(path, ModelKind.CHECKPOINT, allow_pickle=True)
    assert allowed.broken is None and allowed.runtime is Runtime.DIFFUSION
    assert not (tmp_path / "trap-was-sprung").exists()


def test_a_safetensors_file_named_ckpt_is_read_as_what_it_is(tmp_path):
    path = write_safetensors_header(tmp_path / "model.ckpt", typed(sd1()))
    assert ask(path, ModelKind.CHECKPOINT).image.family == "sd1"


def test_inpainting_is_told_by_its_channels(tmp_path):
    path = write_safetensors_header(tmp_path / "model.safetensors", typed(sd1(channels=9)))
    assert ask(path, ModelKind.CHECKPOINT).architecture == "sd1-inpaint"


@pytest.mark.parametrize(
    ("shapes", "kind", "reason"),
    [
        (lora(), ModelKind.CHECKPOINT, "Lora/"),
        (sd1(), ModelKind.LORA, "Stable-diffusion/"),
        ({"decoder.conv_in.weight": (8, 4, 3, 3)}, ModelKind.CHECKPOINT, "VAE/"),
        ({"emb_params": (2, 8)}, ModelKind.LORA, "embeddings/"),
        ({"whatever": (2, 8)}, ModelKind.CHECKPOINT, "no UNet"),
        ({"a": (2, 3, 4), "b": (2,)}, ModelKind.EMBEDDING, "no embedding"),
        ({}, ModelKind.VAE, "no tensors"),
    ],
)
def test_a_file_in_the_wrong_folder_says_where_it_belongs(tmp_path, shapes, kind, reason):
    path = write_safetensors_header(tmp_path / "x.safetensors", typed(shapes))
    with pytest.raises(BrokenModel, match=reason):
        ask(path, kind)


def test_a_checkpoint_may_serve_as_vae(tmp_path):
    path = write_safetensors_header(tmp_path / "x.safetensors", typed(sd1()))
    assert ask(path, ModelKind.VAE).kind is ModelKind.VAE


@pytest.mark.parametrize(
    ("context", "metadata", "family"),
    [
        (768, None, "sd1"),
        (2048, None, "sdxl"),
        (64, None, ""),
        (64, {"ss_base_model_version": "sdxl_base_v1-0"}, "sdxl"),
    ],
)
def test_a_lora_tells_what_it_was_made_for(tmp_path, context, metadata, family):
    path = write_safetensors_header(tmp_path / "x.safetensors", typed(lora(context=context)), metadata)
    assert ask(path, ModelKind.LORA).architecture == family


@pytest.mark.parametrize(
    ("shapes", "vectors", "width"),
    [
        ({"emb_params": (3, 64)}, "3", "64"),
        ({"x": (64,)}, "1", "64"),
        ({"clip_l": (2, 8), "clip_g": (2, 12)}, "2", "20"),
    ],
)
def test_embeddings_tell_their_vectors(tmp_path, shapes, vectors, width):
    path = write_safetensors_header(tmp_path / "x.safetensors", typed(shapes))
    metadata = ask(path, ModelKind.EMBEDDING).metadata
    assert (metadata["embedding.vectors"], metadata["embedding.width"]) == (vectors, width)


@pytest.mark.parametrize(
    "kind, shapes", [(ModelKind.CHECKPOINT, sd1()), (ModelKind.CONTROLNET, {"control_model.x": (8, 8)})]
)
def test_the_old_hash_is_of_64_kib_at_one_mib(tmp_path, kind, shapes):
    path = write_safetensors_header(tmp_path / "x.safetensors", typed({**shapes, "y.x": (600_000,)}))
    with path.open("r+b") as file:
        file.seek(0x100000 + 5)
        file.write(b"weights")
    sample = path.read_bytes()[0x100000:0x110000]
    assert ask(path, kind).short_hashes == (hashlib.sha256(sample).hexdigest()[:8],)


@pytest.mark.parametrize("data", [b"", b"hello", b"version https://git-lfs.github.com/spec/v1\n"])
@pytest.mark.parametrize("kind", [ModelKind.TEXT, ModelKind.CHECKPOINT])
def test_rubbish_is_broken_with_a_reason(tmp_path, data, kind):
    path = put(tmp_path / ("x.gguf" if kind is ModelKind.TEXT else "x.safetensors"), data)
    with pytest.raises(BrokenModel):
        ask(path, kind)


def test_a_gguf_among_checkpoints_is_not_mine(tmp_path):
    with pytest.raises(NotMine):
        ask(write_gguf(tmp_path / "x.safetensors"), ModelKind.CHECKPOINT)


def test_a_fifo_neither_hangs_nor_is_mine(tmp_path):
    os.mkfifo(tmp_path / "x.gguf")
    with pytest.raises(NotMine):
        ask(tmp_path / "x.gguf", ModelKind.TEXT)


def test_a_file_that_is_gone_is_broken(tmp_path):
    with pytest.raises(BrokenModel, match="cannot be opened"):
        ask(tmp_path / "x.gguf", ModelKind.TEXT)


@pytest.mark.parametrize(
    ("kind", "runtime"),
    [(ModelKind.UPSCALER, Runtime.UPSCALER), (ModelKind.PREVIEW, None), (ModelKind.CONTROLNET, None)],
)
def test_an_upscaler_is_a_model_by_itself(tmp_path, kind, runtime):
    path = tmp_path / "x.safetensors"
    write_safetensors_header(path, {"conv_first.weight": ("F32", [8, 3, 3, 3])})
    assert ask(path, kind).runtime is runtime
    pickled = put(tmp_path / "x.pth", pickled_zip())
    assert ask(pickled, kind, allow_pickle=True).runtime is runtime
