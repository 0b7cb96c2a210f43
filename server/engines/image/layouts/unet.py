"""The UNet of the LDM layout (`input_blocks`, `middle_block`, `output_blocks`): architecture and names.

The LDM numbers its blocks in one row: input block 0 is the first convolution; then, level by level, the residual blocks
and one block that halves the size. Diffusers nests them in levels. Both are told apart here by shapes only.
"""

from dataclasses import dataclass, field
from typing import Any

from server.core.errors import LoadFailed
from server.engines.image.layouts.shapes import KeyMap, Shapes, count, need

RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}

ENDS = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}


@dataclass(frozen=True)
class Level:
    """One resolution: its width in channels, residual blocks, and transformer depth (0 = no attention)."""

    width: int
    resnets: int
    depth: int
    shrinks: bool


@dataclass(frozen=True)
class UnetLayout:
    """Architecture of a UNet. `vector_width` is the size of SDXL's extra input, 0 without one."""

    in_channels: int
    out_channels: int
    levels: tuple[Level, ...]
    middle_depth: int
    context_width: int
    linear_projection: bool
    vector_width: int
    modules: dict[str, str] = field(repr=False)

    def config(self, heads: int | None, head_width: int | None) -> dict[str, Any]:
        """Return the arguments of diffusers' UNet2DConditionModel.

        Exactly one of `heads` (the same number at every level) and `head_width` (channels of a head) is given.
        """
        widths = [level.width for level in self.levels]
        per_level = [heads if head_width is None else width // head_width for width in widths]
        depths = [max(level.depth, 1) for level in self.levels]
        config: dict[str, Any] = {
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "block_out_channels": widths,
            "layers_per_block": self.levels[0].resnets,
            "down_block_types": ["CrossAttnDownBlock2D" if each.depth else "DownBlock2D" for each in self.levels],
            "up_block_types": ["CrossAttnUpBlock2D" if each.depth else "UpBlock2D" for each in reversed(self.levels)],
            "cross_attention_dim": self.context_width,
            # Called so in diffusers for old checkpoints' sake, it is the number of heads.
            "attention_head_dim": per_level,
            "transformer_layers_per_block": depths,
            "use_linear_projection": self.linear_projection,
        }
        if self.vector_width:
            config |= {
                "addition_embed_type": "text_time",
                "addition_time_embed_dim": 256,
                "projection_class_embeddings_input_dim": self.vector_width,
            }
        return config


def read(shapes: Shapes) -> UnetLayout:
    """Infer the architecture; `shapes` are named without `model.diffusion_model.`.

    Raises:
        LoadFailed: when a tensor that every such UNet has is missing, or levels differ in a way we do not know.
    """
    first = need(shapes, "input_blocks.0.0.weight", 4)
    modules = dict(ENDS)
    levels = _levels(shapes, modules)
    if len({level.resnets for level in levels}) != 1:
        raise LoadFailed("the UNet has a different number of residual blocks at each level; such models are unknown")
    _middle(modules)
    _output(levels, modules)
    vector = shapes.get("label_emb.0.0.weight")
    context, linear = _attention(shapes)
    return UnetLayout(
        in_channels=first[1],
        out_channels=need(shapes, "out.2.weight", 4)[0],
        levels=tuple(levels),
        middle_depth=count(shapes, "middle_block.1.transformer_blocks.{}."),
        context_width=context,
        linear_projection=linear,
        vector_width=vector[-1] if vector else 0,
        modules=modules,
    )


def key_map(shapes: Shapes, layout: UnetLayout) -> KeyMap:
    """Map every name of the file to diffusers'; unknown names are left out."""
    known = {}
    for name in shapes:
        for old, new in _prefixes(name, layout.modules):
            rest = name[len(old) + 1 :]
            if ".resnets." in f".{new}":
                inner = next((part for part in RESNET if rest.startswith(part + ".")), None)
                if inner is not None:
                    known[name] = f"{new}.{RESNET[inner]}{rest[len(inner) :]}"
            else:
                known[name] = f"{new}.{rest}"
    return known


def _prefixes(name: str, modules: dict[str, str]) -> list[tuple[str, str]]:
    """Return the module a tensor belongs to: a list of one pair, or empty."""
    parts = name.split(".")
    for length in range(min(4, len(parts) - 1), 1, -1):
        prefix = ".".join(parts[:length])
        if prefix in modules:
            return [(prefix, modules[prefix])]
    return []


def _levels(shapes: Shapes, modules: dict[str, str]) -> list[Level]:
    levels: list[Level] = []
    width = resnets = depth = 0
    for block in range(1, count(shapes, "input_blocks.{}.")):
        name, level = f"input_blocks.{block}", len(levels)
        if f"{name}.0.op.weight" in shapes:
            modules[f"{name}.0.op"] = f"down_blocks.{level}.downsamplers.0.conv"
            levels.append(Level(width, resnets, depth, shrinks=True))
            resnets = depth = 0
            continue
        width = need(shapes, f"{name}.0.out_layers.3.weight", 4)[0]
        modules[f"{name}.0"] = f"down_blocks.{level}.resnets.{resnets}"
        if f"{name}.1.norm.weight" in shapes:
            modules[f"{name}.1"] = f"down_blocks.{level}.attentions.{resnets}"
            depth = count(shapes, name + ".1.transformer_blocks.{}.")
        resnets += 1
    return [*levels, Level(width, resnets, depth, shrinks=False)]


def _middle(modules: dict[str, str]) -> None:
    modules["middle_block.0"] = "mid_block.resnets.0"
    modules["middle_block.1"] = "mid_block.attentions.0"
    modules["middle_block.2"] = "mid_block.resnets.1"


def _output(levels: list[Level], modules: dict[str, str]) -> None:
    block = 0
    for up, level in enumerate(reversed(levels)):
        for resnet in range(level.resnets + 1):
            name = f"output_blocks.{block}"
            modules[f"{name}.0"] = f"up_blocks.{up}.resnets.{resnet}"
            if level.depth:
                modules[f"{name}.1"] = f"up_blocks.{up}.attentions.{resnet}"
            block += 1
        if up < len(levels) - 1:
            place = 2 if level.depth else 1
            modules[f"output_blocks.{block - 1}.{place}.conv"] = f"up_blocks.{up}.upsamplers.0.conv"


def _attention(shapes: Shapes) -> tuple[int, bool]:
    """Return the width of the text conditioning and whether projections are linear layers (SD2, SDXL)."""
    for name in shapes:
        if name.endswith(".attn2.to_k.weight"):
            projection = shapes.get(name.split(".transformer_blocks.")[0] + ".proj_in.weight", ())
            return need(shapes, name, 2)[1], len(projection) == 2
    raise LoadFailed("the UNet takes no text conditioning; such models are not served")
