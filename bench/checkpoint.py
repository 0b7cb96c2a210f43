"""Writes a checkpoint of Stable Diffusion 1.5's size with random weights: right in every shape, nonsense in pixels.

Names and shapes are those of the original single-file layout, made from diffusers' own models on the meta device; the
tables between both namings are the loader's, read backwards. Weights have a deviation of 1 / sqrt(inputs), norms are 1.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file

from server.engines.image.layouts.unet_levels import Level, inverse_key_map, modules_of

LEVELS = (
    Level(width=320, resnets=2, depth=1, shrinks=True),
    Level(width=640, resnets=2, depth=1, shrinks=True),
    Level(width=1280, resnets=2, depth=1, shrinks=True),
    Level(width=1280, resnets=2, depth=0, shrinks=False),
)
VAE_WIDTHS = (128, 256, 512, 512)
VAE_NAMES = (
    (r"\bmid_block\.resnets\.0", "mid.block_1"),
    (r"\bmid_block\.resnets\.1", "mid.block_2"),
    (r"\bmid_block\.attentions\.0", "mid.attn_1"),
    (r"\bdown_blocks\.(\d)\.resnets", r"down.\1.block"),
    (r"\bdown_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample"),
    (r"\bup_blocks\.(\d)\.resnets", r"up.\1.block"),
    (r"\bup_blocks\.(\d)\.upsamplers\.0", r"up.\1.upsample"),
    (r"\bconv_shortcut\b", "nin_shortcut"),
    (r"\bconv_norm_out\b", "norm_out"),
    (r"\bgroup_norm\b", "norm"),
    (r"\bto_out\.0\b", "proj_out"),
    (r"\bto_([qkv])\b", r"\1"),
)

Shapes = Iterator[tuple[str, tuple[int, ...]]]


def write_checkpoint(file: Path, seed: int = 0) -> None:
    """Write the checkpoint in float16 (2.1 GB); the same seed gives the same bytes."""
    source = torch.Generator().manual_seed(seed)
    tensors = {name: _drawn(name, shape, source) for name, shape in (*_unet(), *_vae(), *_text())}
    save_file(tensors, str(file))


def unet_config() -> dict[str, object]:
    """Return the arguments of diffusers' UNet; its defaults are Stable Diffusion 1's but for the text's width."""
    return {"cross_attention_dim": 768, "attention_head_dim": 8, "sample_size": 64}


def _drawn(name: str, shape: tuple[int, ...], source: torch.Generator) -> torch.Tensor:
    if len(shape) == 1:
        return torch.ones(shape, dtype=torch.float16) if _is_norm(name) else torch.zeros(shape, dtype=torch.float16)
    inputs = int(torch.tensor(shape[1:]).prod())
    spread = 0.02 if "embedding" in name else inputs**-0.5
    return (torch.randn(shape, generator=source) * spread).half()


def _is_norm(name: str) -> bool:
    """Tell which one-dimensional tensors are factors of norms: weights, for biases are the only others."""
    return name.endswith(".weight")


def _unet() -> Shapes:
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    with torch.device("meta"):
        found = UNet2DConditionModel(**unet_config()).state_dict()
    for old, new in inverse_key_map(found, modules_of(LEVELS)).items():
        yield f"model.diffusion_model.{old}", tuple(found[new].shape)


def _vae() -> Shapes:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    with torch.device("meta"):
        found = AutoencoderKL(
            block_out_channels=VAE_WIDTHS,
            layers_per_block=2,
            latent_channels=4,
            down_block_types=["DownEncoderBlock2D"] * len(VAE_WIDTHS),
            up_block_types=["UpDecoderBlock2D"] * len(VAE_WIDTHS),
        ).state_dict()
    for name, tensor in found.items():
        shape = tuple(tensor.shape)
        is_squeezed = ".attentions." in name and len(shape) == 2
        yield f"first_stage_model.{_vae_name(name)}", (*shape, 1, 1) if is_squeezed else shape


def _vae_name(name: str) -> str:
    for pattern, old in VAE_NAMES:
        name = re.sub(pattern, old, name)
    last = len(VAE_WIDTHS) - 1
    return re.sub(r"\bup\.(\d)", lambda found: f"up.{last - int(found[1])}", name)


def _text() -> Shapes:
    from transformers import CLIPTextConfig
    from transformers.models.clip.modeling_clip import CLIPTextModel

    config = CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
    with torch.device("meta"):
        found = CLIPTextModel(config).state_dict()
    for name, tensor in found.items():
        yield f"cond_stage_model.transformer.text_model.{name.removeprefix('text_model.')}", tuple(tensor.shape)
