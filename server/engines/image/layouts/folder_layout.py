"""What the JSON files of a diffusers folder tell: family, text encoders, names. Pure but for one look at a folder."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from server.core.errors import LoadFailed
from server.engines.image.layouts.family import SD1, SD2, SDXL, SDXL_REFINER, Family, TextRule
from server.engines.image.layouts.shapes import KeyMap
from server.engines.image.layouts.unet_levels import Level, inverse_key_map, modules_of
from server.engines.image.layouts.vae import LATENT_CHANNELS, LEVELS

Json = Mapping[str, Any]

PLAIN_BLOCKS = {"CrossAttnDownBlock2D": True, "DownBlock2D": False}
"""Kinds of levels with and without attention; others have no names in single files."""

TEXT_KEYS = (
    *("hidden_size", "num_hidden_layers", "intermediate_size", "num_attention_heads", "vocab_size", "hidden_act"),
    *("max_position_embeddings", "projection_dim", "layer_norm_eps", "bos_token_id", "eos_token_id", "pad_token_id"),
)

OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""Names in the VAE's attention before diffusers 0.17."""


def family_of(index: Json, unet: Json, text_encoder: Path) -> Family:
    """Return the family of a folder.

    Raises:
        LoadFailed: it is none that is served.
    """
    if not isinstance(unet.get("cross_attention_dim"), int) or "unet" not in index:
        raise LoadFailed(f"the folder holds a {index.get('_class_name', 'model')}, which is not served")
    if is_part(index, "text_encoder_2"):
        return SDXL if is_part(index, "text_encoder") else SDXL_REFINER
    if not is_part(index, "text_encoder"):
        raise LoadFailed("the folder has no text encoder")
    linear = unet.get("use_linear_projection") is True
    return SD2 if linear else SD1


def is_part(index: Json, name: str) -> bool:
    """Tell whether a model has a part: its entry is the library and class, or two nulls."""
    entry = index.get(name)
    return isinstance(entry, list) and bool(entry) and entry[-1] is not None


def text_folders(family: Family) -> tuple[str, ...]:
    """Return the folders of a family's text encoders, in its order."""
    if family is SDXL_REFINER:
        return ("text_encoder_2",)
    return ("text_encoder", "text_encoder_2")[: len(family.texts)]


def text_rule(family: Family, number: int) -> TextRule:
    """Return how a text encoder is read; SD2's comes without the layer that is never used."""
    rule = family.texts[number]
    return replace(rule, from_end=1) if family is SD2 else rule


def text_config(config: Json) -> dict[str, Any]:
    """Return the arguments of transformers' CLIPTextConfig."""
    return {key: config[key] for key in TEXT_KEYS if config.get(key) is not None}


def public(config: Json) -> dict[str, Any]:
    """Return a configuration without the keys that only say who wrote it."""
    return {key: value for key, value in config.items() if not key.startswith("_")}


def number(config: Json, key: str) -> float | None:
    """Return a positive number of a configuration, None when it has none of that name."""
    value = config.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else None


def check_vae(config: Json) -> None:
    """Raise LoadFailed for a VAE that makes other latents than Stable Diffusion's."""
    widths = config.get("block_out_channels")
    levels = len(widths) if isinstance(widths, Sequence) else 0
    channels = config.get("latent_channels", LATENT_CHANNELS)
    if levels != LEVELS or channels != LATENT_CHANNELS:
        raise LoadFailed(f"the VAE has {levels} levels and {channels} latent channels; 4 and 4 are served")
    if config.get("shift_factor") or config.get("latents_mean"):
        raise LoadFailed("the VAE shifts its latents, which is not served")


def vae_name(name: str) -> str:
    """Return today's name of a VAE tensor.

    >>> vae_name("decoder.mid_block.attentions.0.proj_attn.weight")
    'decoder.mid_block.attentions.0.to_out.0.weight'
    """
    head, _, tail = name.rpartition(".attentions.0.")
    part, _, last = tail.partition(".")
    return f"{head}.attentions.0.{OLD_ATTENTION[part]}.{last}" if head and part in OLD_ATTENTION else name


def single_file_names(unet: Json, names: Iterable[str]) -> KeyMap:
    """Map the names that single files give a UNet's tensors to the module's; empty for structures they never have."""
    levels = _levels(unet)
    return inverse_key_map(list(names), modules_of(levels)) if levels else {}


def _levels(unet: Json) -> list[Level]:
    kinds, widths = unet.get("down_block_types"), unet.get("block_out_channels")
    resnets, depths = unet.get("layers_per_block", 2), unet.get("transformer_layers_per_block", 1)
    if not isinstance(kinds, list) or not isinstance(widths, list) or not isinstance(resnets, int):
        return []
    depths = [depths] * len(kinds) if isinstance(depths, int) else depths
    if any(kind not in PLAIN_BLOCKS for kind in kinds) or not all(isinstance(depth, int) for depth in depths):
        return []
    rows = zip(kinds, widths, depths, strict=False)
    last = len(kinds) - 1
    return [
        Level(width, resnets, depth if PLAIN_BLOCKS[kind] else 0, shrinks=place < last)
        for place, (kind, width, depth) in enumerate(rows)
    ]
