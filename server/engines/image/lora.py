"""LoRA files: which layers they name, in the spellings of kohya's scripts, diffusers and the original layout."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from server.engines.image.loaded import Checkpoint
from server.engines.image.tensor_files import open_tensors

SUFFIXES = (
    *("lora_up", "lora_down", "lora_mid", "lora_A", "lora_B", "alpha", "scale", "dora_scale", "bias", "diff", "diff_b"),
    *("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2"),
    *("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2"),
    *("on_input", "w_norm", "b_norm", "weight", "oft_blocks", "oft_diag", "rescale", "a1", "a2", "b1", "b2"),
)
"""Last names of the tensors of a layer, `.weight` left out."""

UNET_STARTS = ("lora_unet_", "lycoris_unet_", "lora_diffusion_model_", "diffusion_model_", "unet_")
TEXT_STARTS = ("lora_te_text_model_", "lora_te1_text_model_", "lora_te_", "text_encoder_text_model_", "text_encoder_")
SECOND_TEXT_STARTS = ("lora_te2_text_model_", "lora_te2_", "text_encoder_2_text_model_", "text_encoder_2_")

TEXT_PARTS = {1: "text_", 2: "text2_"}
"""Beginnings of our names by the number that LoRA files give a text encoder."""


@dataclass(frozen=True)
class Layer:
    """A layer that a LoRA may change, and whether it belongs to the text encoder."""

    module: nn.Module
    is_text: bool


Layers = Mapping[str, Layer]
"""Layers by `unet_...`, `text_...` and `text2_...` names, with underscores for dots."""


def layers(checkpoint: Checkpoint) -> Layers:
    """Return all layers with a weight under the names that LoRA files give them."""
    found: dict[str, Layer] = {}
    unet = dict(checkpoint.unet.named_modules())
    for name, module in unet.items():
        if isinstance(getattr(module, "weight", None), nn.Parameter):
            found["unet_" + name.replace(".", "_")] = Layer(module, is_text=False)
    for old, new in checkpoint.unet_names.items():
        layer = found.get("unet_" + new.rsplit(".", 1)[0].replace(".", "_"))
        if layer is not None:
            found["unet_" + old.rsplit(".", 1)[0].replace(".", "_")] = layer
    for tower in checkpoint.texts:
        start = TEXT_PARTS[tower.rule.adapter]
        for name, module in tower.bare.named_modules():
            if isinstance(getattr(module, "weight", None), nn.Parameter):
                found[start + name.replace(".", "_")] = Layer(module, is_text=True)
        if tower.projection is not None:
            found[start + "text_projection"] = Layer(tower.projection, is_text=True)
    return found


def read_groups(path: Path, *, allow_pickle: bool) -> dict[str, dict[str, torch.Tensor]]:
    """Return the tensors of a LoRA file by layer (named as in `layers`) and last name. LoadFailed when unreadable."""
    groups: dict[str, dict[str, torch.Tensor]] = {}
    with open_tensors(path, allow_pickle=allow_pickle) as tensors:
        for name in tensors.shapes:
            layer, last = split_name(name)
            if layer is not None:
                groups.setdefault(layer, {})[last] = tensors.get(name)
    return groups


def split_name(name: str) -> tuple[str | None, str]:
    """Split a tensor's name into layer and last name; the layer is None when it belongs to no known part.

    Files that count text encoders call OpenCLIP-G the second, also where it is the only one.

    >>> split_name("lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight")
    ('text_encoder_layers_0_mlp_fc1', 'lora_up')
    >>> split_name("unet.down_blocks.0.attentions.0.proj_in.lora_A.weight")
    ('unet_down_blocks_0_attentions_0_proj_in', 'lora_A')
    """
    parts = name.split(".")
    if len(parts) > 2 and parts[-1] == "weight" and parts[-2] in SUFFIXES:
        parts = parts[:-1]
    if parts[-1] not in SUFFIXES:
        return None, ""
    layer = "_".join(parts[:-1])
    return _canonical(layer), parts[-1]


def _canonical(layer: str) -> str | None:
    for starts, part in ((UNET_STARTS, "unet_"), (SECOND_TEXT_STARTS, TEXT_PARTS[2]), (TEXT_STARTS, TEXT_PARTS[1])):
        start = _first_start(layer, starts)
        if start is not None:
            return part + layer[len(start) :]
    return None


def _first_start(layer: str, starts: Iterable[str]) -> str | None:
    return next((start for start in starts if layer.startswith(start)), None)
