"""Tensors of single files to modules: built on the meta device, then given the file's tensors, each converted once.

So loading peaks at the size of the model in its run dtype. Everything must match: a missing or left-over tensor is an
error that names it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig

from server.core.errors import LoadFailed
from server.engines.image import skips
from server.engines.image.layouts import family as families
from server.engines.image.layouts import text_encoder, unet, vae
from server.engines.image.layouts.family import Family, TextRule
from server.engines.image.layouts.shapes import KeyMap, Shapes, under
from server.engines.image.layouts.sidecar import Sidecar
from server.engines.image.ready_memory import Cast
from server.engines.image.tensor_files import Tensors
from server.engines.image.text_tower import TextTower

HARMLESS = ("loss.", "model_ema.", "logit_scale", "text_projection", "attn_mask")
"""Beginnings of names that training leaves in a part and that nobody needs for pictures."""

PROJECTION = "text_projection"

CUT_LAYERS = 23
"""Layers of an OpenCLIP-H without its last one."""

NAMED = 5
"""How many offending tensors an error names."""

Named = Iterable[tuple[str, torch.Tensor]]


def build_unet(tensors: Tensors, family: Family, extra: Sidecar, cast: Cast) -> tuple[UNet2DConditionModel, KeyMap]:
    """Return the UNet of a single file with the map from its names there to those of the module."""
    prefix = families.unet_prefix(tensors.shapes)
    shapes = {name: shape for name, shape in under(prefix, tensors.shapes).items() if prefix or _is_unet(name)}
    layout = unet.read(shapes)
    check_vector(layout.vector_width, family)
    heads, head_width = family.heads, family.head_width
    if extra.unet_head_width is not None:
        heads, head_width = None, extra.unet_head_width
    elif extra.unet_heads is not None:
        heads, head_width = extra.unet_heads, None
    with torch.device("meta"):
        model = UNet2DConditionModel(**layout.config(heads, head_width))
    names = unet.key_map(shapes, layout)
    fill(model, "UNet", _renamed(tensors, prefix, shapes, names, cast))
    skips.match_sizes(model)
    return model, names


def check_vector(width: int, family: Family) -> None:
    """Raise LoadFailed when a UNet's vector input cannot be what its family makes of pooled text and sizes."""
    sizes = families.SIZE_COUNT[family.sizes] * families.SIZE_WIDTH
    if (width > 0) != (sizes > 0) or (sizes and width <= sizes):
        raise LoadFailed(f"the UNet takes a vector of {width} values, which no model of the family {family.name} does")


def build_vae(tensors: Tensors, cast: Cast) -> AutoencoderKL:
    """Build the VAE of a checkpoint, or of a file that holds only a VAE (without the prefix)."""
    prefix = families.VAE if any(name.startswith(families.VAE) for name in tensors.shapes) else ""
    shapes = under(prefix, tensors.shapes)
    layout = vae.read(shapes)
    with torch.device("meta"):
        model = AutoencoderKL(**layout.config())

    def named() -> Iterator[tuple[str, torch.Tensor]]:
        for name, tensor in _renamed(tensors, prefix, shapes, vae.key_map(shapes, layout), cast):
            yield name, tensor[..., 0, 0] if vae.squeezed(name) and tensor.ndim == 4 else tensor

    fill(model, "VAE", named())
    return model


def build_text(tensors: Tensors, rule: TextRule, extra: Sidecar, cast: Cast) -> TextTower:
    """Build one text encoder of a single file."""
    prefix = rule.prefix
    if any(name.startswith(prefix + "text_model.") for name in tensors.shapes):
        prefix += "text_model."
    shapes = under(prefix, tensors.shapes)
    layout = text_encoder.read(shapes)
    tower = empty_tower(_with_projection(layout.config(extra.text_heads), shapes), fitting(rule, layout.layers))
    fill(tower.bare, "text encoder", _text_parts(tensors, prefix, shapes, cast))
    add_positions(tower.bare, layout.positions)
    if tower.projection is not None:
        fill(tower.projection, "text encoder", _projection(tensors, prefix, shapes, cast))
    return tower.eval()


def fitting(rule: TextRule, layers: int) -> TextRule:
    """Return the rule for an encoder of so many layers: some files come without the last one, which SD2 never uses."""
    is_cut = rule.from_end == 2 and rule.normed and layers == CUT_LAYERS
    return replace(rule, from_end=1) if is_cut else rule


def empty_tower(config: dict[str, Any], rule: TextRule) -> TextTower:
    """Return a text encoder on the meta device."""
    with torch.device("meta"):
        return TextTower(CLIPTextConfig(**config), rule)


def add_positions(inner: nn.Module, positions: int) -> None:
    """Give a text model the buffer that files do not hold."""
    numbers = torch.arange(positions).expand((1, -1))
    inner.get_submodule("embeddings").register_buffer("position_ids", numbers, persistent=False)


def fill(module: nn.Module, part: str, named: Named) -> None:
    """Give a module its tensors, all of them, and make it ready to run.

    Raises:
        LoadFailed: some are missing, unknown or of another shape.
    """
    try:
        left = module.load_state_dict(dict(named), strict=False, assign=True)
    except RuntimeError as error:
        raise LoadFailed(f"the {part} of the checkpoint has tensors of unexpected shapes") from error
    if left.missing_keys or left.unexpected_keys:
        parts = [_some("lacks", left.missing_keys), _some("has unknown tensors", left.unexpected_keys)]
        raise LoadFailed(f"the {part} of the checkpoint {' and '.join(part for part in parts if part)}")
    module.requires_grad_(False)
    module.eval()


def _with_projection(config: dict[str, Any], shapes: Shapes) -> dict[str, Any]:
    """Return the configuration with the width of the projection, where the file has one."""
    if PROJECTION in shapes and len(shapes[PROJECTION]) == 2:
        return config | {"projection_dim": shapes[PROJECTION][1]}
    rows = shapes.get(f"{PROJECTION}.weight", ())
    return config | {"projection_dim": rows[0]} if len(rows) == 2 else config


def _projection(tensors: Tensors, prefix: str, shapes: Shapes, cast: Cast) -> Named:
    """Return the projection as a linear layer has it; OpenCLIP multiplies from the right."""
    if PROJECTION in shapes:
        return [("weight", cast(tensors.get(prefix + PROJECTION).T).contiguous())]
    if f"{PROJECTION}.weight" in shapes:
        return [("weight", cast(tensors.get(f"{prefix}{PROJECTION}.weight")))]
    raise LoadFailed("the text encoder of the checkpoint lacks text_projection")


def _text_parts(tensors: Tensors, prefix: str, shapes: Shapes, cast: Cast) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the tensors of a text model by transformers' names; open_clip's joined ones are cut in three."""
    names = text_encoder.key_map(shapes, text_encoder.read(shapes))
    joined = text_encoder.fused(shapes)
    for old, pieces in joined.items():
        yield from zip(pieces, map(cast, tensors.get(prefix + old).chunk(3)), strict=True)
    yield from _renamed(tensors, prefix, [name for name in shapes if name not in joined], names, cast)


def _renamed(
    tensors: Tensors, prefix: str, names: Iterable[str], new: KeyMap, cast: Cast
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield each tensor of a part under its new name, converted; unknown ones keep their old name."""
    for name in names:
        if name.startswith(HARMLESS) or name.endswith("position_ids"):
            continue
        yield new.get(name, prefix + name), cast(tensors.get(prefix + name))


def _is_unet(name: str) -> bool:
    """Tell what belongs to the UNet in a file that has no prefix before it."""
    return name.startswith(("time_embed.", "label_emb.", "input_blocks.", "middle_block.", "output_blocks.", "out."))


def _some(verb: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{verb} {', '.join(sorted(names)[:NAMED])}{more}"
