"""Binary edges after resizing: ridges found again, a threshold that fits, lines thinned to one pixel.

Thinning takes away what Golay's patterns L match, in eight turns, until nothing changes; pruning cuts single ends off.
"""

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.uint8]
"""[height, width]."""

Pattern = tuple[tuple[int, ...], ...]
"""1: must be set, 0: must not, -1: does not matter."""

THIN: tuple[Pattern, ...] = (
    ((0, 0, 0), (-1, 1, -1), (1, 1, 1)),
    ((-1, 0, 0), (1, 1, 0), (-1, 1, -1)),
)
PRUNE: tuple[Pattern, ...] = (
    ((0, 0, 0), (0, 1, 0), (-1, -1, 0)),
    ((0, 0, 0), (0, 1, 0), (0, -1, -1)),
)
MOST_ROUNDS = 32

LINES = (((0, -1), (0, 1)), ((-1, 0), (1, 0)), ((-1, -1), (1, 1)), ((-1, 1), (1, -1)))
"""Both neighbours (down, right) of a place, in four directions."""


def is_thin(plane: Plane) -> bool:
    """Tell whether more than half of a white-on-black map vanishes when it is worn off by a pixel and swollen again."""
    white = plane > 127
    opened = _any_near(_all_near(white))
    return bool(2 * np.count_nonzero(white & ~opened) > np.count_nonzero(white))


def ridges(plane: Plane) -> Plane:
    """Keep what is not below both neighbours in one of four directions."""
    around = np.pad(plane, 1)
    height, width = plane.shape
    kept = np.zeros(plane.shape, dtype=np.bool_)
    for pair in LINES:
        sides = [around[1 + y : 1 + y + height, 1 + x : 1 + x + width] for y, x in pair]
        kept |= plane >= np.maximum(*sides)
    return np.where(kept, plane, 0).astype(np.uint8)


def split(plane: Plane) -> Plane:
    """Return white above the level that parts dark and bright best (Otsu 1979), black elsewhere."""
    counts = np.bincount(plane.ravel(), minlength=256).astype(np.float64)
    levels = np.arange(256)
    below = np.cumsum(counts)
    above = below[-1] - below
    dark = np.cumsum(counts * levels)
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = below * above * (dark / below - (dark[-1] - dark) / above) ** 2
    return np.where(plane > int(np.argmax(np.nan_to_num(apart))), 255, 0).astype(np.uint8)


def thinned(plane: Plane, *, prune: bool) -> Plane:
    """Return a white-on-black map with lines of one pixel; `prune` cuts the last pixel off loose ends."""
    white = plane > 127
    for _ in range(MOST_ROUNDS):
        before = np.count_nonzero(white)
        _take_away(white, THIN)
        if np.count_nonzero(white) == before:
            break
    if prune:
        _take_away(white, PRUNE)
    return np.where(white, 255, 0).astype(np.uint8)


def _take_away(white: NDArray[np.bool_], patterns: tuple[Pattern, ...]) -> None:
    """Clear what matches, pattern after pattern, each in four turns."""
    height, width = white.shape
    for turn in range(4):
        for pattern in patterns:
            around = np.pad(white, 1)
            match = np.ones_like(white)
            for (y, x), wanted in np.ndenumerate(np.rot90(np.array(pattern), turn)):
                if wanted >= 0:
                    match &= around[y : y + height, x : x + width] == bool(wanted)
            white[match] = False


def _all_near(white: NDArray[np.bool_]) -> NDArray[np.bool_]:
    around = np.pad(white, 1, constant_values=True)
    height, width = white.shape
    return np.logical_and.reduce([around[y : y + height, x : x + width] for y in range(3) for x in range(3)])


def _any_near(white: NDArray[np.bool_]) -> NDArray[np.bool_]:
    around = np.pad(white, 1)
    height, width = white.shape
    return np.logical_or.reduce([around[y : y + height, x : x + width] for y in range(3) for x in range(3)])
