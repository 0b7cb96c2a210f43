"""Holistically nested edges (Xie and Tu 2015, arXiv 1504.06375) in the layout of `ControlNetHED.pth`.

Five blocks of convolutions as in VGG16, each with a plane of edges of its own; their mean, brought to the picture's
size, is what is drawn. `hed_safe` keeps three levels, so that no grey hides what lies beneath; `scribble_hed` thins the
edges to ridges, draws them broadly and parts them.
"""

from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from server.core.image import Preprocessing
from server.engines.image.annotators.base import device_of, filled, grey, tensor_of, tensors_of
from server.engines.image.preprocess.resampling import Pixels
from server.engines.image.preprocess.smoothing import gaussian

BLOCKS = ((3, 64, 2), (64, 128, 2), (128, 256, 3), (256, 512, 3), (512, 512, 3))
"""Channels in and out, and convolutions, of the published network."""

SAFE_STEPS = 2
RIDGE_LEVEL, RIDGE_DEVIATION, STROKE_LEVEL = 127, 3.0, 4


class _Block(nn.Module):
    def __init__(self, inside: int, outside: int, layers: int) -> None:
        super().__init__()
        widths = [inside] + [outside] * layers
        self.convs = nn.ModuleList(nn.Conv2d(before, after, 3, padding=1) for before, after in pairwise(widths))
        self.projection = nn.Conv2d(outside, 1, 1)

    def forward(self, x: torch.Tensor, *, shrink: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Return features [1, outside, h, w] and edges [1, 1, h, w]."""
        if shrink:
            x = functional.max_pool2d(x, 2, 2)
        for conv in self.convs:
            x = functional.relu(conv(x))
        return x, self.projection(x)


class HedNet(nn.Module):
    """The network; `norm` is the mean colour that is taken away first."""

    def __init__(self, blocks: tuple[tuple[int, int, int], ...] = BLOCKS) -> None:
        super().__init__()
        self.norm = nn.Parameter(torch.zeros(1, 3, 1, 1))
        for number, block in enumerate(blocks, start=1):
            setattr(self, f"block{number}", _Block(*block))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return five planes of edges of [1, 3, h, w], 0 ... 255, each half the size of the one before."""
        x = x - self.norm
        planes = []
        for number in range(1, len(BLOCKS) + 1):
            x, plane = getattr(self, f"block{number}")(x, shrink=number > 1)
            planes.append(plane)
        return planes


class Hed:
    """Draws soft edges. `load` reads a file."""

    def __init__(self, network: HedNet) -> None:
        self.network: nn.Module = network

    @classmethod
    def load(cls, path: Path, *, allow_pickle: bool) -> "Hed":
        """Read a file; raise LoadFailed when it does not hold this network."""
        state = tensors_of(path, allow_pickle=allow_pickle)
        network = HedNet()
        filled(network, state, path.name)
        return cls(network)

    def draw(self, pixels: Pixels, asked: Preprocessing) -> Pixels:
        """Return the map; the module decides on what becomes of the edges."""
        edges = self._edges(pixels)
        if asked.module == "hed_safe":
            edges = ((edges * (SAFE_STEPS + 1)).to(torch.int32).float() / SAFE_STEPS).clamp(0, 1)
        drawn = grey(edges)
        return strokes(drawn) if asked.module == "scribble_hed" else drawn

    def _edges(self, pixels: Pixels) -> torch.Tensor:
        """Return edges [height, width], 0 ... 1."""
        height, width = pixels.shape[:2]
        # five halvings need a pixel to be left of each side
        wide = np.pad(pixels, ((0, max(16 - height, 0)), (0, max(16 - width, 0)), (0, 0)), mode="edge")
        with torch.inference_mode():
            planes = self.network(tensor_of(wide, device_of(self.network)))
            size = wide.shape[:2]
            large = [functional.interpolate(plane, size=size, mode="bilinear", align_corners=False) for plane in planes]
            mean: torch.Tensor = torch.sigmoid(torch.stack(large).mean(dim=0))[0, 0, :height, :width]
        return mean


def strokes(drawn: Pixels) -> Pixels:
    """Return ridges of a map of edges as broad strokes, black and white."""
    ridged = _ridges(gaussian(drawn, RIDGE_DEVIATION)[:, :, 0])
    broad = gaussian(np.repeat(ridged[:, :, None], 3, axis=2), RIDGE_DEVIATION)
    return np.where(broad > STROKE_LEVEL, 255, 0).astype(np.uint8)


def _ridges(plane: np.ndarray) -> Pixels:
    """Return 255 where a value is the largest of three in one of four directions, and above the level."""
    around = np.pad(plane, 1, mode="edge")
    height, width = plane.shape

    def at(dy: int, dx: int) -> np.ndarray:
        return around[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]

    is_ridge = np.zeros(plane.shape, dtype=bool)
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        is_ridge |= (plane >= at(dy, dx)) & (plane >= at(-dy, -dx))
    return np.where(is_ridge & (plane > RIDGE_LEVEL), 255, 0).astype(np.uint8)
