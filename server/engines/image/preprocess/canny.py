"""Canny's edges (1986) as OpenCV finds them: to the last pixel, with whole numbers throughout.

Sobel slopes of 3x3 with repeated borders; of a picture's channels the one with the steepest slope counts, place by
place. Steepness is |dx| + |dy|. An edge is a ridge of steepness across the slope's direction, of four. Ridges above
`low` count where they hang together with one above `high`.
"""

import numpy as np
from numpy.typing import NDArray

from server.engines.image.preprocess.resampling import Pixels

SHIFT = 15
TANGENT = 13573
"""tan(22.5 degrees) in 2^-15."""

Whole = NDArray[np.int32]
Marks = NDArray[np.bool_]


def canny(pixels: Pixels, low: float, high: float) -> NDArray[np.uint8]:
    """Return the edges [height, width], 255 on black; thresholds are rounded down."""
    low, high = sorted((low, high))
    dx, dy = _steepest(pixels)
    steep = np.abs(dx) + np.abs(dy)
    ridge = (steep > int(np.floor(low))) & _is_ridge(steep, dx, dy)
    edges = _connected(ridge, ridge & (steep > int(np.floor(high))))
    return np.where(edges, 255, 0).astype(np.uint8)


def _steepest(pixels: Pixels) -> tuple[Whole, Whole]:
    """Return the slopes of the steepest channel at each place; the first of equals."""
    best: tuple[Whole, Whole] | None = None
    for channel in range(pixels.shape[2]):
        dx, dy = _sobel(pixels[:, :, channel])
        if best is None:
            best = dx, dy
            continue
        more = np.abs(dx) + np.abs(dy) > np.abs(best[0]) + np.abs(best[1])
        best = np.where(more, dx, best[0]), np.where(more, dy, best[1])
    assert best is not None
    return best


def _sobel(channel: NDArray[np.uint8]) -> tuple[Whole, Whole]:
    values = np.pad(channel.astype(np.int32), 1, mode="edge")
    down = values[:-2] + 2 * values[1:-1] + values[2:]
    across = values[:, :-2] + 2 * values[:, 1:-1] + values[:, 2:]
    return down[:, 2:] - down[:, :-2], across[2:] - across[:-2]


def _is_ridge(steep: Whole, dx: Whole, dy: Whole) -> Marks:
    """Tell where steepness is largest across the edge; of equal neighbours the later one in reading order loses.

    Along diagonals it must be larger than both.
    """
    around = np.pad(steep, 1)

    def beside(down: int, right: int) -> Whole:
        height, width = steep.shape
        return around[1 + down : 1 + down + height, 1 + right : 1 + right + width]

    x, y = np.abs(dx).astype(np.int64), np.abs(dy).astype(np.int64) << SHIFT
    flat = x * TANGENT
    level, upright = y < flat, y > flat + (x << (SHIFT + 1))
    falling = (dx ^ dy) < 0
    diagonal = np.where(
        falling,
        (steep > beside(-1, 1)) & (steep > beside(1, -1)),
        (steep > beside(-1, -1)) & (steep > beside(1, 1)),
    )
    across = (steep > beside(0, -1)) & (steep >= beside(0, 1))
    along = (steep > beside(-1, 0)) & (steep >= beside(1, 0))
    return np.where(level, across, np.where(upright, along, diagonal))


def _connected(weak: Marks, strong: Marks) -> Marks:
    """Return the weak marks that hang together with a strong one, over corners too."""
    height, width = weak.shape
    open_ = np.pad(weak & ~strong, 1).ravel()
    found = np.pad(strong, 1).ravel()
    line = width + 2
    steps = np.array([-line - 1, -line, -line + 1, -1, 1, line - 1, line, line + 1])
    border = np.flatnonzero(found)
    while border.size:
        near = (border[:, None] + steps).ravel()
        border = np.unique(near[open_[near]])
        open_[border] = False
        found[border] = True
    return found.reshape(height + 2, line)[1:-1, 1:-1]
