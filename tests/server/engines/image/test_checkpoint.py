from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from server.core.errors import LoadFailed
from server.engines.image import checkpoint
from tests.server.engines.image.conftest import FLOAT32
from tests.support.golden_images import CHECKPOINT
from tests.support.shared import golden, needs_shared
from tests.support.tiny_checkpoint import tiny_tensors, write_tiny_checkpoint, write_tiny_vae

pytestmark = pytest.mark.torch


def load(path: Path, *, vae: Path | None = None, allow_pickle: bool = False) -> checkpoint.Checkpoint:
    return checkpoint.load(
        path, precision=FLOAT32, vae_path=vae, allow_pickle=allow_pickle, report=lambda fraction: None
    )


def changed(tmp_path: Path, *, without: str | None = None, **extra: torch.Tensor) -> Path:
    """Write the tiny checkpoint with tensors left out, added or replaced."""
    tensors = {name: tensor for name, tensor in tiny_tensors().items() if without is None or without not in name}
    path = tmp_path / "changed.safetensors"
    save_file(tensors | {name.replace("__", "."): tensor for name, tensor in extra.items()}, str(path))
    return path


def test_all_parts_are_loaded_in_the_dtype_asked_for(tiny: checkpoint.Checkpoint) -> None:
    for module in tiny.modules():
        assert not module.training
        for tensor in (*module.parameters(), *module.buffers()):
            assert not tensor.is_meta
            assert not tensor.requires_grad
            assert tensor.dtype in (torch.float32, torch.int64)


def test_half_precision(tiny_path: Path) -> None:
    precision = checkpoint.Precision(model=torch.bfloat16, vae=torch.float32)
    loaded = checkpoint.load(
        tiny_path, precision=precision, vae_path=None, allow_pickle=False, report=lambda fraction: None
    )
    assert {p.dtype for p in loaded.unet.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in loaded.vae.parameters()} == {torch.float32}


def test_values_arrive_where_they_belong(tiny: checkpoint.Checkpoint) -> None:
    tensors = tiny_tensors()
    for name, new in tiny.unet_names.items():
        assert torch.equal(tiny.unet.get_parameter(new), tensors["model.diffusion_model." + name].float()), name
    query = tensors["first_stage_model.decoder.mid.attn_1.q.weight"].float()[:, :, 0, 0]
    assert torch.equal(tiny.vae.get_parameter("decoder.mid_block.attentions.0.to_q.weight"), query)


def test_progress_only_rises(tiny_path: Path) -> None:
    told: list[float] = []
    checkpoint.load(tiny_path, precision=FLOAT32, vae_path=None, allow_pickle=False, report=told.append)
    assert told == sorted(told)
    assert told
    assert all(0 <= fraction <= 1 for fraction in told)


def test_pickled_checkpoints_give_the_same_model(tmp_path: Path, tiny: checkpoint.Checkpoint) -> None:
    torch.save({"state_dict": tiny_tensors(), "global_step": 5}, tmp_path / "x.ckpt")
    loaded = load(tmp_path / "x.ckpt", allow_pickle=True)
    for name, parameter in tiny.unet.named_parameters():
        assert torch.equal(loaded.unet.get_parameter(name), parameter)


def test_text_encoders_of_older_files(tmp_path: Path, tiny: checkpoint.Checkpoint) -> None:
    """Files of transformers before 4.0 lack `text_model.` in their names."""
    tensors = {name.replace(".text_model.", "."): tensor for name, tensor in tiny_tensors().items()}
    save_file(tensors, str(tmp_path / "old.safetensors"))
    old, new = load(tmp_path / "old.safetensors").text_encoder, tiny.text_encoder
    assert torch.equal(next(old.parameters()), next(new.parameters()))


@pytest.mark.parametrize(
    ("without", "sentence"),
    [
        ("input_blocks.1.0.in_layers.0.bias", "UNet of the checkpoint lacks down_blocks.0.resnets.0.norm1.bias"),
        ("decoder.conv_out", "VAE of the checkpoint lacks decoder.conv_out"),
        ("layers.0.mlp.fc2.bias", "text encoder of the checkpoint lacks encoder.layers.0.mlp.fc2.bias"),
        ("first_stage_model", "no VAE, and there is no spare for the family sd1"),
        ("cond_stage_model", "no text encoder, and there is no spare for the family sd1"),
        ("model.diffusion_model", "no UNet"),
    ],
)
def test_missing_tensors_are_named(tmp_path: Path, without: str, sentence: str) -> None:
    with pytest.raises(LoadFailed, match=sentence):
        load(changed(tmp_path, without=without))


def test_unknown_tensors_are_named(tmp_path: Path) -> None:
    path = changed(tmp_path, model__diffusion_model__extra__weight=torch.ones(1))
    with pytest.raises(LoadFailed, match=r"unknown tensors model\.diffusion_model\.extra\.weight"):
        load(path)


def test_wrong_shapes_are_refused(tmp_path: Path) -> None:
    path = changed(tmp_path, first_stage_model__quant_conv__bias=torch.ones(3))
    with pytest.raises(LoadFailed, match="VAE of the checkpoint has tensors of unexpected shapes"):
        load(path)


def test_training_leftovers_are_ignored(tmp_path: Path) -> None:
    path = changed(
        tmp_path,
        first_stage_model__loss__logvar=torch.ones(1),
        first_stage_model__model_ema__decay=torch.ones(1),
        cond_stage_model__logit_scale=torch.ones(1),
    )
    assert load(path).family.name == "sd1"


@pytest.mark.parametrize("prefixed", [False, True])
def test_another_vae(tmp_path: Path, tiny_path: Path, tiny: checkpoint.Checkpoint, prefixed: bool) -> None:
    other = tmp_path / "other.safetensors"
    if prefixed:
        write_tiny_checkpoint(other, seed=1)
    else:
        write_tiny_vae(other)
    loaded = load(tiny_path, vae=other)
    assert torch.equal(loaded.unet.conv_in.weight, tiny.unet.conv_in.weight)
    assert not torch.equal(loaded.vae.decoder.conv_in.weight, tiny.vae.decoder.conv_in.weight)


def test_a_broken_vae_file_is_refused(tmp_path: Path, tiny_path: Path) -> None:
    save_file({"decoder.conv_in.weight": torch.ones(1)}, str(tmp_path / "vae.safetensors"))
    with pytest.raises(LoadFailed):
        load(tiny_path, vae=tmp_path / "vae.safetensors")


@needs_shared
@pytest.mark.golden
def test_recorded_network_calls() -> None:
    """One UNet call and one VAE decode and encode on recorded inputs."""
    loaded = load(CHECKPOINT)
    recorded = golden("tensors.json")
    unet, vae = recorded["unet"], recorded["vae"]
    tokens = torch.full((2, 77), 49407)
    words = [320, 736, 7117, 525, 320, 1746, 5994]
    tokens[:, 0] = 49406
    tokens[0, 1 : 1 + len(words)] = torch.tensor(words)
    with torch.no_grad():
        text = loaded.text_encoder(tokens).last_hidden_state
        assert text.flatten()[:8].tolist() == pytest.approx(unet["cond"]["first8"], abs=1e-5)
        x = torch.tensor(unet["x"]).reshape(2, 4, 8, 8)
        eps = loaded.unet(x, torch.tensor(unet["t"]), text).sample
        assert eps.flatten().tolist() == pytest.approx(unet["eps"], abs=2e-5)
        picture = loaded.vae.decode(torch.tensor(vae["z"]).reshape(1, 4, 8, 8) / loaded.latent_scale).sample
        assert picture[0, :, 0].tolist() == [pytest.approx(row, abs=1e-5) for row in vae["decoded_first_row"]]
        posterior = loaded.vae.encode(picture.clamp(-1, 1)).latent_dist
    assert posterior.mean.flatten().tolist() == pytest.approx(vae["encoded_mean"], abs=2e-3)
