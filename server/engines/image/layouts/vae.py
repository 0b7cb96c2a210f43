"""The autoencoder of the LDM layout (`encoder.down`, `decoder.up`): architecture and names.

Level 0 of the decoder is its last in diffusers. The one attention of the middle block is a stack of 1 x 1 convolutions
in the file and linear layers in diffusers: `squeezed` names the tensors that lose their last two dimensions.
"""

from dataclasses import dataclass
from typing import Any

from server.core.errors import LoadFailed
from server.engines.image.layouts.shapes import KeyMap, Shapes, count, need

LEVELS = 4
"""Each level but one halves the size, and a latent cell is 8 pixels wide everywhere in this engine."""

LATENT_CHANNELS = 4

ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}

MIDDLE = {"block_1": "resnets.0", "attn_1": "attentions.0", "block_2": "resnets.1"}


@dataclass(frozen=True)
class VaeLayout:
    """Architecture of an autoencoder: channels per level (finest first), residual blocks of an encoder level."""

    widths: tuple[int, ...]
    resnets: int
    latent_channels: int

    def config(self) -> dict[str, Any]:
        """Return the arguments of diffusers' AutoencoderKL."""
        return {
            "block_out_channels": list(self.widths),
            "layers_per_block": self.resnets,
            "latent_channels": self.latent_channels,
            "down_block_types": ["DownEncoderBlock2D"] * len(self.widths),
            "up_block_types": ["UpDecoderBlock2D"] * len(self.widths),
        }


def read(shapes: Shapes) -> VaeLayout:
    """Infer the architecture; `shapes` are named without `first_stage_model.`.

    Raises:
        LoadFailed: parts are missing, or it makes other latents than Stable Diffusion's.
    """
    latent_channels = need(shapes, "decoder.conv_in.weight", 4)[1]
    levels = count(shapes, "encoder.down.{}.")
    if levels != LEVELS or latent_channels != LATENT_CHANNELS:
        raise LoadFailed(f"the VAE has {levels} levels and {latent_channels} latent channels; 4 and 4 are served")
    widths = tuple(need(shapes, f"encoder.down.{level}.block.0.conv2.weight", 4)[0] for level in range(levels))
    return VaeLayout(
        widths=widths,
        resnets=count(shapes, "encoder.down.0.block.{}."),
        latent_channels=latent_channels,
    )


def key_map(shapes: Shapes, layout: VaeLayout) -> KeyMap:
    """Map every name of the file to diffusers'; unknown names are left out."""
    last = len(layout.widths) - 1
    known = {}
    for name in shapes:
        head, _, rest = name.partition(".")
        if head in ("quant_conv", "post_quant_conv"):
            known[name] = name
        elif head in ("encoder", "decoder"):
            new = _half(rest, last)
            if new is not None:
                known[name] = f"{head}.{new}"
    return known


def squeezed(new: str) -> bool:
    """Tell whether a tensor of this diffusers name is a 1 x 1 convolution in the file and a linear layer here."""
    return ".attentions." in new and new.endswith(".weight") and "group_norm" not in new


def _half(name: str, last: int) -> str | None:
    parts = name.split(".")
    match parts:
        case ["conv_in" | "conv_out", *_]:
            return name
        case ["norm_out", tail]:
            return f"conv_norm_out.{tail}"
        case ["mid", block, *inner] if block in MIDDLE:
            names = ATTENTION if block == "attn_1" else {"nin_shortcut": "conv_shortcut"}
            return ".".join(["mid_block", MIDDLE[block], names.get(inner[0], inner[0]), *inner[1:]])
        case ["down", level, "block", number, *inner]:
            return f"down_blocks.{level}.resnets.{number}.{_resnet(inner)}"
        case ["down", level, "downsample", "conv", tail]:
            return f"down_blocks.{level}.downsamplers.0.conv.{tail}"
        case ["up", level, "block", number, *inner]:
            return f"up_blocks.{last - int(level)}.resnets.{number}.{_resnet(inner)}"
        case ["up", level, "upsample", "conv", tail]:
            return f"up_blocks.{last - int(level)}.upsamplers.0.conv.{tail}"
    return None


def _resnet(inner: list[str]) -> str:
    return ".".join("conv_shortcut" if part == "nin_shortcut" else part for part in inner)
