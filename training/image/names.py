"""The names of Stable Diffusion 1's single files for the modules of diffusers and transformers.

The UNet's come from the same table as the loader's; the VAE's are spelled here, and the text encoder's are the same.
"""

import re

import torch

from server.engines.image.layouts import unet_levels
from server.engines.image.layouts.unet_levels import Level

UNET = "model.diffusion_model."
VAE = "first_stage_model."
TEXT = "cond_stage_model.transformer.text_model."

_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}

_VAE_RULES = (
    (r"^(encoder|decoder)\.conv_norm_out\.", r"\1.norm_out."),
    (r"^(encoder|decoder)\.mid_block\.resnets\.0\.", r"\1.mid.block_1."),
    (r"^(encoder|decoder)\.mid_block\.resnets\.1\.", r"\1.mid.block_2."),
    (r"^(encoder|decoder)\.mid_block\.attentions\.0\.", r"\1.mid.attn_1."),
    (r"^encoder\.down_blocks\.(\d)\.resnets\.(\d)\.", r"encoder.down.\1.block.\2."),
    (r"^encoder\.down_blocks\.(\d)\.downsamplers\.0\.", r"encoder.down.\1.downsample."),
    (r"\.conv_shortcut\.", r".nin_shortcut."),
)


def unet_names(state: dict[str, torch.Tensor], levels: tuple[Level, ...]) -> dict[str, torch.Tensor]:
    """Return a UNet's tensors under the names of the file."""
    inverse = unet_levels.inverse_key_map(list(state), unet_levels.modules_of(levels))
    return {UNET + old: state[new] for old, new in inverse.items()}


def vae_names(state: dict[str, torch.Tensor], levels: int) -> dict[str, torch.Tensor]:
    """Return a VAE's tensors under the names of the file; the attention's linear layers become 1 x 1 convolutions."""
    return {VAE + _vae_name(name, levels): _vae_tensor(name, tensor) for name, tensor in state.items()}


def text_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a text encoder's tensors under the names of the file."""
    return {TEXT + name: tensor for name, tensor in state.items()}


def _vae_name(name: str, levels: int) -> str:
    for pattern, new in _VAE_RULES:
        name = re.sub(pattern, new, name)
    up = re.match(r"^decoder\.up_blocks\.(\d)\.(resnets|upsamplers)\.(\d)\.(.*)$", name)
    if up is not None:
        level, kind, number, rest = up.groups()
        part = f"block.{number}" if kind == "resnets" else "upsample"
        name = f"decoder.up.{levels - 1 - int(level)}.{part}.{rest}"
    for new, old in _ATTENTION.items():
        name = name.replace(f".attn_1.{new}.", f".attn_1.{old}.")
    return name


def _vae_tensor(name: str, tensor: torch.Tensor) -> torch.Tensor:
    is_projection = ".attentions." in name and name.endswith(".weight") and "group_norm" not in name
    return tensor[..., None, None] if is_projection else tensor
