"""Single files that lack something, or hold it in another way."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from server.core.errors import LoadFailed
from server.engines.image.layouts.family import SD2
from tests.support.tiny_checkpoint import tiny_tensors, write_tiny_checkpoint, write_tiny_vae
from tests.support.towers import load_tiny

pytestmark = pytest.mark.torch

UNET = "model.diffusion_model."


def written(path: Path, family: str, *, without: tuple[str, ...] = (), bare: bool = False, **extra: str) -> Path:
    """Write a tiny checkpoint without some parts; `bare` leaves a UNet's prefix out; `extra` goes into the header."""
    tensors = {name: t for name, t in tiny_tensors(half=False, family=family).items() if not name.startswith(without)}
    if bare:
        tensors = {name.removeprefix(UNET): tensor for name, tensor in tensors.items()}
    save_file(tensors, str(path), metadata=extra or None)
    return path


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl", "sdxl-refiner", "inpaint"])
def test_missing_parts_come_from_the_spare_of_the_family(family: str, tmp_path: Path) -> None:
    texts = ("cond_stage_model.", "conditioner.")
    path = written(tmp_path / "x.safetensors", family, without=("first_stage_model.", *texts))
    name = {"sdxl-refiner": "sdxl_refiner", "inpaint": "sd1"}.get(family, family)
    lender = write_tiny_checkpoint(tmp_path / "spare.safetensors", half=False, family=family, seed=1)
    found, spare = load_tiny(path, spares={name: str(lender)}), load_tiny(lender)
    assert found.family.name == name
    for ours, theirs in zip((*found.texts, found.vae), (*spare.texts, spare.vae), strict=True):
        wanted = theirs.state_dict()
        assert all(torch.equal(tensor, wanted[key]) for key, tensor in ours.state_dict().items())
    assert not torch.equal(found.unet.conv_in.weight, spare.unet.conv_in.weight)


def test_a_bare_unet_needs_only_a_spare(tmp_path: Path) -> None:
    path = written(
        tmp_path / "x.safetensors",
        "sd2",
        without=("first_stage_model.", "cond_stage_model.", "alphas", "model_ema"),
        bare=True,
    )
    lender = write_tiny_checkpoint(tmp_path / "spare.safetensors", family="sd2", seed=1)
    found = load_tiny(path, spares={"sd2": str(lender)})
    assert found.family is SD2
    assert len(found.unet_names) == len(found.unet.state_dict())


def test_a_vae_file_is_a_spare_for_the_vae_alone(tmp_path: Path) -> None:
    vae = write_tiny_vae(tmp_path / "vae.safetensors")
    load_tiny(written(tmp_path / "x.safetensors", "sd1", without=("first_stage_model.",)), spares={"sd1": str(vae)})
    path = written(tmp_path / "y.safetensors", "sd1", without=("cond_stage_model.",))
    with pytest.raises(LoadFailed, match=r"no text encoder, and its spare vae\.safetensors has none"):
        load_tiny(path, spares={"sd1": str(vae)})


@pytest.mark.parametrize("spares", [{}, {"sd1": "x"}])
def test_without_a_spare_the_sentence_says_what_to_write(spares: dict[str, str], tmp_path: Path) -> None:
    path = written(tmp_path / "x.safetensors", "sdxl", without=("first_stage_model.",))
    with pytest.raises(LoadFailed, match=r"no VAE.*family sdxl.*\[image.spares\] sdxl = FILE"):
        load_tiny(path, spares=spares)


def test_a_spare_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "x.safetensors", "sd1", without=("first_stage_model.",))
    with pytest.raises(LoadFailed, match=r"gone\.safetensors"):
        load_tiny(path, spares={"sd1": str(tmp_path / "gone.safetensors")})


@pytest.mark.parametrize(
    ("family", "said", "prediction"), [("sd1", "v", "v"), ("sdxl", "v", "v"), ("sd2", "eps", "eps")]
)
def test_the_header_says_what_is_predicted(family: str, said: str, prediction: str, tmp_path: Path) -> None:
    path = written(tmp_path / "x.safetensors", family, **{"modelspec.prediction_type": said})
    assert load_tiny(path).prediction == prediction


@pytest.mark.parametrize(("family", "prediction"), [("sd1", "eps"), ("sdxl", "eps"), ("sd2", None), ("sd2-v", None)])
def test_only_sd2_leaves_it_open(family: str, prediction: str | None, tmp_path: Path) -> None:
    assert load_tiny(written(tmp_path / "x.safetensors", family)).prediction == prediction


def test_marks_of_sdxl_models(tmp_path: Path) -> None:
    tensors = tiny_tensors(half=False, family="sdxl")
    save_file(tensors | {"v_pred": torch.ones(0), "ztsnr": torch.ones(0)}, str(tmp_path / "x.safetensors"))
    found = load_tiny(tmp_path / "x.safetensors")
    assert found.prediction == "v"
    assert found.alphas_cumprod[-1] < 1e-6


def test_a_vector_of_another_width_is_refused(tmp_path: Path) -> None:
    tensors = tiny_tensors(half=False, family="sdxl")
    name = f"{UNET}label_emb.0.0.weight"
    tensors[name] = torch.zeros(tensors[name].shape[0], tensors[name].shape[1] + 1)
    save_file(tensors, str(tmp_path / "x.safetensors"))
    with pytest.raises(LoadFailed, match="pooled text of 25 values, the text encoder gives 24"):
        load_tiny(tmp_path / "x.safetensors")


def test_text_encoders_of_another_width_are_refused(tmp_path: Path) -> None:
    tensors = {name: t for name, t in tiny_tensors(half=False, family="sd2").items() if "cond_stage" not in name}
    texts = {name: t for name, t in tiny_tensors(half=False, family="sd1").items() if "cond_stage" in name}
    texts = {name: torch.cat([t, t], -1) if t.shape[-1] == 16 else t for name, t in texts.items()}
    save_file(tensors | {n: t for n, t in texts.items() if "embedding" in n}, str(tmp_path / "x.safetensors"))
    with pytest.raises(LoadFailed):
        load_tiny(tmp_path / "x.safetensors")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_any_precision_is_read(dtype: torch.dtype, tmp_path: Path) -> None:
    tensors = tiny_tensors(half=False, family="sdxl")
    save_file({name: t.to(dtype) for name, t in tensors.items()}, str(tmp_path / "x.safetensors"))
    found = load_tiny(tmp_path / "x.safetensors")
    exact = tensors[f"{UNET}out.2.weight"].to(dtype).float()
    assert torch.equal(found.unet.conv_out.weight, exact)
    assert {tensor.dtype for module in found.modules() for tensor in module.parameters()} == {torch.float32}
