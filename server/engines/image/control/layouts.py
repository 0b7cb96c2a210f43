"""What a ControlNet file holds, told from names and shapes: the original layout and that of the diffusers library.

Both describe the same network: the way down of a UNet with a 1 x 1 convolution at each output, and a small stack of
convolutions that brings the map to the size of latents.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from server.core.errors import LoadFailed
from server.engines.image.layouts import unet_levels
from server.engines.image.layouts.family import SIZE_WIDTH
from server.engines.image.layouts.shapes import KeyMap, Shapes, count, need, under
from server.engines.image.layouts.unet_levels import Level

PREFIX = "control_model."
"""Before the names of the original layout; some files come without it."""

HINT_CONVOLUTIONS = 8

OTHERS = {
    "lora_controlnet": "a ControlLoRA",
    "lllite_": "a ControlNet-LLLite",
    "task_embedding": "a union ControlNet",
    "control_add_embedding.": "a union ControlNet",
    "controlnet_blocks.": "a ControlNet for Flux or Stable Diffusion 3",
    "motion_modules.": "a SparseCtrl",
    "difference": "a ControlNet stored as the difference to a checkpoint",
}
"""Beginnings of names by which kinds that are not served are known."""


@dataclass(frozen=True)
class ControlLayout:
    """Architecture of a ControlNet and where its tensors go.

    `levels` finest first; `middle_depth` 0 = no attention there; `hint_widths` are the channels of the stack before
    the map; `names` maps the file's names to the module's.
    """

    in_channels: int
    hint_channels: int
    hint_widths: tuple[int, ...]
    levels: tuple[Level, ...]
    middle_depth: int
    context_width: int
    linear_projection: bool
    vector_width: int
    names: KeyMap

    def config(self, heads: tuple[int, ...]) -> dict[str, Any]:
        """Return the arguments of diffusers' ControlNetModel; `heads` at every level, which are the checkpoint's."""
        depths = [max(level.depth, 1) for level in self.levels]
        if not self.levels[-1].depth and self.middle_depth:
            depths[-1] = self.middle_depth
        config: dict[str, Any] = {
            "in_channels": self.in_channels,
            "conditioning_channels": self.hint_channels,
            "conditioning_embedding_out_channels": list(self.hint_widths),
            "block_out_channels": [level.width for level in self.levels],
            "layers_per_block": self.levels[0].resnets,
            "down_block_types": ["CrossAttnDownBlock2D" if each.depth else "DownBlock2D" for each in self.levels],
            "mid_block_type": "UNetMidBlock2DCrossAttn" if self.middle_depth else "UNetMidBlock2D",
            "cross_attention_dim": self.context_width,
            "attention_head_dim": list(heads),
            "transformer_layers_per_block": depths,
            "use_linear_projection": self.linear_projection,
        }
        if self.vector_width:
            config |= {
                "addition_embed_type": "text_time",
                "addition_time_embed_dim": SIZE_WIDTH,
                "projection_class_embeddings_input_dim": self.vector_width,
            }
        return config


def refuse_others(shapes: Shapes) -> None:
    """Raise LoadFailed for files of kinds that are known and not served."""
    for start, kind in OTHERS.items():
        if any(name.removeprefix(PREFIX).startswith(start) for name in shapes):
            raise LoadFailed(f"the file holds {kind}, which is not served")


def read(shapes: Shapes) -> ControlLayout:
    """Infer the architecture of a ControlNet.

    Raises:
        LoadFailed: it is none, damaged, or of a kind that is not served.
    """
    refuse_others(shapes)
    inner = under(PREFIX, shapes)
    prefix = PREFIX if inner else ""
    inner = inner or dict(shapes)
    if "input_hint_block.0.weight" in inner:
        return _original(inner, prefix)
    if "controlnet_cond_embedding.conv_in.weight" in inner:
        return _diffusers(inner, prefix)
    raise LoadFailed("the file holds no ControlNet")


def _original(shapes: Shapes, prefix: str) -> ControlLayout:
    levels = _original_levels(shapes)
    hints = [number for number in range(0, 4 * HINT_CONVOLUTIONS, 2) if f"input_hint_block.{number}.weight" in shapes]
    if len(hints) < 4 or len(hints) % 2:
        raise LoadFailed(f"the ControlNet has {len(hints)} convolutions before its map, which is unknown")
    widths = [need(shapes, f"input_hint_block.{number}.weight", 4)[0] for number in hints]
    names = unet_levels.key_map(shapes, unet_levels.modules_of(levels))
    for name in shapes:
        new = _original_name(name, hints)
        if new is not None:
            names[name] = new
    return _layout(
        shapes,
        levels=levels,
        conv_in="input_blocks.0.0",
        hint="input_hint_block.0",
        hint_widths=(widths[0], *widths[2:-1:2]),
        middle_depth=count(shapes, "middle_block.1.transformer_blocks.{}."),
        vector="label_emb.0.0.weight",
        names={prefix + old: new for old, new in names.items()},
    )


def _original_name(name: str, hints: list[int]) -> str | None:
    """Return the module's name of what a ControlNet has beside its half of a UNet."""
    match name.split("."):
        case ["input_hint_block", number, kind] if number.isdecimal() and int(number) in hints:
            place = hints.index(int(number))
            inner = "conv_in" if place == 0 else "conv_out" if place == len(hints) - 1 else f"blocks.{place - 1}"
            return f"controlnet_cond_embedding.{inner}.{kind}"
        case ["zero_convs", number, "0", kind]:
            return f"controlnet_down_blocks.{number}.{kind}"
        case ["middle_block_out", "0", kind]:
            return f"controlnet_mid_block.{kind}"
    return None


def _original_levels(shapes: Shapes) -> tuple[Level, ...]:
    levels: list[Level] = []
    width = resnets = depth = 0
    for block in range(1, count(shapes, "input_blocks.{}.")):
        name = f"input_blocks.{block}"
        if f"{name}.0.op.weight" in shapes:
            levels.append(Level(width, resnets, depth, shrinks=True))
            resnets = depth = 0
            continue
        width = need(shapes, f"{name}.0.out_layers.3.weight", 4)[0]
        depth = count(shapes, name + ".1.transformer_blocks.{}.")
        resnets += 1
    return _checked((*levels, Level(width, resnets, depth, shrinks=False)))


def _diffusers(shapes: Shapes, prefix: str) -> ControlLayout:
    number = count(shapes, "down_blocks.{}.")
    levels = []
    for place in range(number):
        block = f"down_blocks.{place}"
        resnets = count(shapes, block + ".resnets.{}.")
        depth = count(shapes, block + ".attentions.0.transformer_blocks.{}.")
        width = need(shapes, f"{block}.resnets.0.conv1.weight", 4)[0]
        levels.append(Level(width, resnets, depth, shrinks=place < number - 1))
    stack = "controlnet_cond_embedding"
    blocks = count(shapes, stack + ".blocks.{}.")
    outs = [need(shapes, f"{stack}.blocks.{place}.weight", 4)[0] for place in range(1, blocks, 2)]
    return _layout(
        shapes,
        levels=_checked(tuple(levels)),
        conv_in="conv_in",
        hint=f"{stack}.conv_in",
        hint_widths=(need(shapes, f"{stack}.conv_in.weight", 4)[0], *outs),
        middle_depth=count(shapes, "mid_block.attentions.0.transformer_blocks.{}."),
        vector="add_embedding.linear_1.weight",
        names={prefix + name: name for name in shapes},
    )


def _checked(levels: tuple[Level, ...]) -> tuple[Level, ...]:
    if not levels or len({level.resnets for level in levels}) != 1 or not levels[0].resnets:
        raise LoadFailed("the ControlNet is of an unknown structure")
    return levels


def _layout(
    shapes: Shapes,
    *,
    levels: tuple[Level, ...],
    conv_in: str,
    hint: str,
    hint_widths: tuple[int, ...],
    middle_depth: int,
    vector: str,
    names: KeyMap,
) -> ControlLayout:
    context, linear = _attention(shapes)
    wide = shapes.get(vector)
    return ControlLayout(
        in_channels=need(shapes, f"{conv_in}.weight", 4)[1],
        hint_channels=need(shapes, f"{hint}.weight", 4)[1],
        hint_widths=hint_widths,
        levels=levels,
        middle_depth=middle_depth,
        context_width=context,
        linear_projection=linear,
        vector_width=wide[-1] if wide else 0,
        names=names,
    )


def _attention(shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, bool]:
    """Return the width of the text and whether projections are linear; (0, False) where nothing attends to text."""
    for name in shapes:
        if name.endswith(".attn2.to_k.weight"):
            projection = shapes.get(name.split(".transformer_blocks.")[0] + ".proj_in.weight", ())
            return need(shapes, name, 2)[1], len(projection) == 2
    return 0, False
