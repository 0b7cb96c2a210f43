"""Previews of a running pipeline: its own VAE on a few cells, which shows true colours for every family."""

import torch
from torch.nn import functional

from server.engines.image.pictures import png, to_image
from server.engines.image.pipelines.latents import Grid
from server.engines.image.preview import grid as sheet

MOST_CELLS = 24
"""Of a preview's longer side; decoding 24 x 24 cells takes about 1/28 of what 128 x 128 take."""


def look(grid: Grid, cells: torch.Tensor) -> bytes:
    """Return a PNG of a batch of cells [batch, C, h, w], several pictures as a square grid."""
    height, width = cells.shape[-2:]
    share = min(1.0, MOST_CELLS / max(height, width))
    if share < 1.0:
        small = max(int(height * share), 1), max(int(width * share), 1)
        cells = functional.interpolate(cells.float(), size=small, mode="area")
    pictures = torch.nan_to_num(torch.cat([grid.decode(one[None]) for one in cells]))
    return png(sheet([to_image(picture) for picture in pictures]))
