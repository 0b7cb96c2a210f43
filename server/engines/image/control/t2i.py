"""T2I-Adapter (Mou et al. 2023): features of a map for each level of a UNet, the same in all steps.

A file holds `conv_in` and `body`, a row of blocks, as many a level. A level begins with a block that has an `in_conv`
when it changes the width. The map is folded eightfold before the first convolution, so the first level has the size of
latents; XL adapters fold sixteenfold and begin at half of it, which is not served.
"""

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional

from server.core.errors import LoadFailed
from server.engines.image.layouts.shapes import Shapes, count, need

PREFIX = "adapter."
"""Before the names in files of the diffusers library."""

FOLD = 8


class _Block(nn.Module):
    def __init__(self, into: int, width: int, kernel: int, *, shrinks: bool) -> None:
        super().__init__()
        pad = kernel // 2
        self.shrinks = shrinks
        self.in_conv = nn.Conv2d(into, width, kernel, padding=pad) if into != width else None
        self.block1 = nn.Conv2d(width, width, 3, padding=1)
        self.block2 = nn.Conv2d(width, width, kernel, padding=pad)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.shrinks:
            x = functional.avg_pool2d(x, 2, ceil_mode=True)
        x = x if self.in_conv is None else self.in_conv(x)
        added: torch.Tensor = self.block2(functional.relu(self.block1(x)))
        return added + x


class AdapterNet(nn.Module):
    """From a map [1, channels, H, W], 0 ... 1, to a tensor a level, finest first: [1, width, H/8, W/8], then halves."""

    def __init__(self, channels: int, widths: tuple[int, ...], blocks: int, kernel: int) -> None:
        super().__init__()
        self.channels = channels
        self.widths = widths
        self._blocks = blocks
        self.conv_in = nn.Conv2d(channels * FOLD * FOLD, widths[0], 3, padding=1)
        rows: list[nn.Module] = []
        for level, width in enumerate(widths):
            for place in range(blocks):
                into = widths[max(level - 1, 0)] if place == 0 else width
                rows.append(_Block(into, width, kernel, shrinks=level > 0 and place == 0))
        self.body = nn.ModuleList(rows)

    def forward(self, hint: torch.Tensor) -> list[torch.Tensor]:
        """Return the features of each level."""
        x = self.conv_in(functional.pixel_unshuffle(hint, FOLD))
        features = []
        for place, block in enumerate(self.body):
            x = block(x)
            if place % self._blocks == self._blocks - 1:
                features.append(x)
        return features


def is_adapter(shapes: Shapes) -> bool:
    """Tell whether tensors are those of a T2I-Adapter of the served kind or of another."""
    return any(name.removeprefix(PREFIX).startswith("body.0.") for name in shapes)


def names(shapes: Shapes) -> dict[str, str]:
    """Map the names of a file to those of the module. Files of diffusers number blocks within levels."""
    blocks = count(shapes, f"{PREFIX}body.0.resnets.{{}}.")
    found = {}
    for name in shapes:
        match name.removeprefix(PREFIX).split("."):
            case ["body", level, "resnets", block, part, kind]:
                found[name] = f"body.{int(level) * blocks + int(block)}.{part}.{kind}"
            case ["body", level, "in_conv", kind]:
                found[name] = f"body.{int(level) * blocks}.in_conv.{kind}"
            case parts:
                found[name] = ".".join(parts)
    return found


def build(shapes: Mapping[str, tuple[int, ...]], levels: int) -> AdapterNet:
    """Return the network of these shapes (by the module's names) for a UNet of so many levels, on the meta device.

    Raises:
        LoadFailed: an adapter of another kind.
    """
    rows = count(shapes, "body.{}.")
    first, folded = need(shapes, "conv_in.weight", 4)[:2]
    if not rows or rows % levels or folded % (FOLD * FOLD) or folded // (FOLD * FOLD) not in (1, 3):
        raise LoadFailed("the file holds a T2I-Adapter of a kind that is not served")
    blocks = rows // levels
    widths = tuple(need(shapes, f"body.{level * blocks}.block1.weight", 4)[0] for level in range(levels))
    if widths[0] != first or any("skep" in name or "down_opt" in name for name in shapes):
        raise LoadFailed("the file holds a T2I-Adapter of a kind that is not served")
    kernel = need(shapes, "body.0.block2.weight", 4)[-1]
    with torch.device("meta"):
        return AdapterNet(folded // (FOLD * FOLD), widths, blocks, kernel)
