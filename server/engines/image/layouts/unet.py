"""The UNet of the LDM layout (`input_blocks`, `middle_block`, `output_blocks`): architecture and names.

Told by shapes only; `unet_levels` knows how its blocks are numbered.
"""

from dataclasses import dataclass, field
from typing import Any

from server.core.errors import LoadFailed
from server.engines.image.layouts import unet_levels
from server.engines.image.layouts.family import SIZE_WIDTH
from server.engines.image.layouts.shapes import KeyMap, Shapes, count, need
from server.engines.image.layouts.unet_levels import Level, Modules, modules_of


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
    modules: Modules = field(repr=False)

    def config(self, heads: int | None, head_width: int | None) -> dict[str, Any]:
        """Return the arguments of diffusers' UNet2DConditionModel.

        Exactly one of `heads` (the same number at every level) and `head_width` (channels of a head) is given.
        """
        widths = [level.width for level in self.levels]
        per_level = [heads if head_width is None else max(width // head_width, 1) for width in widths]
        depths = [max(level.depth, 1) for level in self.levels]
        if not self.levels[-1].depth:
            depths[-1] = self.middle_depth  # diffusers takes the middle block's depth from the last level
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
                "addition_time_embed_dim": SIZE_WIDTH,
                "projection_class_embeddings_input_dim": self.vector_width,
            }
        return config


def read(shapes: Shapes) -> UnetLayout:
    """Infer the architecture; `shapes` are named without `model.diffusion_model.`.

    Raises:
        LoadFailed: when a tensor that every such UNet has is missing, or levels differ in a way we do not know.
    """
    first = need(shapes, "input_blocks.0.0.weight", 4)
    levels = tuple(_levels(shapes))
    middle = count(shapes, "middle_block.1.transformer_blocks.{}.")
    if len({level.resnets for level in levels}) != 1:
        raise LoadFailed("the UNet has a different number of residual blocks at each level; such models are unknown")
    if not middle or (levels[-1].depth not in (0, middle)):
        raise LoadFailed(f"the UNet's middle block has {middle} transformers, which is unknown for such levels")
    vector = shapes.get("label_emb.0.0.weight")
    context, linear = _attention(shapes)
    return UnetLayout(
        in_channels=first[1],
        out_channels=need(shapes, "out.2.weight", 4)[0],
        levels=levels,
        middle_depth=middle,
        context_width=context,
        linear_projection=linear,
        vector_width=vector[-1] if vector else 0,
        modules=modules_of(levels),
    )


def key_map(shapes: Shapes, layout: UnetLayout) -> KeyMap:
    """Map every name of the file to diffusers'; unknown names are left out."""
    return unet_levels.key_map(shapes, layout.modules)


def _levels(shapes: Shapes) -> list[Level]:
    levels: list[Level] = []
    width = resnets = depth = 0
    for block in range(1, count(shapes, "input_blocks.{}.")):
        name = f"input_blocks.{block}"
        if f"{name}.0.op.weight" in shapes:
            levels.append(Level(width, resnets, depth, shrinks=True))
            resnets = depth = 0
            continue
        width = need(shapes, f"{name}.0.out_layers.3.weight", 4)[0]
        if f"{name}.1.norm.weight" in shapes:
            depth = count(shapes, name + ".1.transformer_blocks.{}.")
        resnets += 1
    return [*levels, Level(width, resnets, depth, shrinks=False)]


def _attention(shapes: Shapes) -> tuple[int, bool]:
    """Return the width of the text conditioning and whether projections are linear layers (SD2, SDXL)."""
    for name in shapes:
        if name.endswith(".attn2.to_k.weight"):
            projection = shapes.get(name.split(".transformer_blocks.")[0] + ".proj_in.weight", ())
            return need(shapes, name, 2)[1], len(projection) == 2
    raise LoadFailed("the UNet takes no text conditioning; such models are not served")
