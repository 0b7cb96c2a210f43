"""Resizing by OpenCV's kernels, whose cubic is another one than Pillow's, and which never widen when they shrink.

| kernel | each value is |
|---|---|
| `nearest` | the one whose place is that place times the scale, rounded down |
| `cubic` | four neighbours by Keys' cubic with a = -0.75, also when shrinking |
| `area` | the mean of the area it covers; where a side grows, two neighbours |
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from server.core.errors import BadImage

Pixels = NDArray[np.uint8]
"""[height, width, channels]."""

Floats = NDArray[np.float32]

Kernel = Literal["nearest", "cubic", "area"]

SHARPNESS = -0.75
"""OpenCV's a in Keys' cubic."""

MOST_PIXELS = 16_777_216
"""Of a map. Very thin pictures would become larger ones."""

AT_A_TIME = 1_000_000
"""Values that are converted to larger types at a time."""


def resized(pixels: Pixels, width: int, height: int, kernel: Kernel) -> Pixels:
    """Return the picture at another size."""
    if (pixels.shape[1], pixels.shape[0]) == (width, height):
        return pixels.copy()
    return rounded(resized_values(pixels, width, height, kernel))


def resized_values(
    values: NDArray[np.uint8] | NDArray[np.float32] | NDArray[np.float64], width: int, height: int, kernel: Kernel
) -> Floats:
    """Return values [height, width, channels] at another size, neither rounded nor cut off."""
    grows = width > values.shape[1] or height > values.shape[0]
    across = _along(values, width, _chosen(kernel, grows=grows))
    down = _along(np.swapaxes(across, 0, 1), height, _chosen(kernel, grows=grows))
    return np.ascontiguousarray(np.swapaxes(down, 0, 1))


def rounded(values: Floats) -> Pixels:
    """Return values as 8-bit levels."""
    return np.rint(values).clip(0, 255).astype(np.uint8)


def to_short_side(pixels: Pixels, resolution: int) -> Pixels:
    """Return the picture with its short side at `resolution`: by area when it shrinks, cubic when it grows.

    Raises:
        BadImage: it is so thin that it would become too large.
    """
    height, width = pixels.shape[:2]
    scale = resolution / min(height, width)
    wide, high = scaled_sides(width, height, scale)
    return resized(pixels, wide, high, "cubic" if scale > 1 else "area")


def scaled_sides(width: int, height: int, scale: float) -> tuple[int, int]:
    """Return width and height at another scale; raise BadImage when that is too large for a map."""
    wide, high = max(round(width * scale), 1), max(round(height * scale), 1)
    if wide * high > MOST_PIXELS:
        told = f"a picture of {width}x{height} would become a map of {wide}x{high}; {MOST_PIXELS} pixels are the most"
        raise BadImage(told, param="control", reason="too_large")
    return wide, high


_Axis = Callable[[NDArray[np.float64], int], NDArray[np.float64]]
"""Resizes along the second axis of [rows, n, channels]."""


def _chosen(kernel: Kernel, *, grows: bool) -> _Axis:
    if kernel == "area":
        return _by_pairs if grows else _by_area
    return _by_cubic if kernel == "cubic" else _by_nearest


def _along(values: NDArray[np.uint8] | NDArray[np.float32] | NDArray[np.float64], size: int, axis: _Axis) -> Floats:
    rows, length, channels = values.shape
    made = np.empty((rows, size, channels), dtype=np.float32)
    some = max(AT_A_TIME // max(length * channels, 1), 1)
    for start in range(0, rows, some):
        made[start : start + some] = axis(values[start : start + some].astype(np.float64), size)
    return made


def _by_nearest(values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    length = values.shape[1]
    return values[:, np.minimum(np.arange(size) * length // size, length - 1)]


def _by_cubic(values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    length = values.shape[1]
    at = (np.arange(size) + 0.5) * (length / size) - 0.5
    first = np.floor(at).astype(np.int64)
    made = np.zeros((values.shape[0], size, values.shape[2]))
    for offset in (-1, 0, 1, 2):
        weight = _keys(np.abs(at - (first + offset)))
        made += values[:, (first + offset).clip(0, length - 1)] * weight[None, :, None]
    return made


def _keys(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Keys' cubic at distances of 0 ... 2."""
    a, d = SHARPNESS, distance
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, far)


def _by_area(values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Take means between fractional borders: differences of the running sum, which is linear within a value."""
    length = values.shape[1]
    sums = np.zeros((values.shape[0], length + 1, values.shape[2]))
    np.cumsum(values, axis=1, out=sums[:, 1:])
    borders = np.arange(size + 1) * (length / size)
    whole = np.minimum(borders.astype(np.int64), length - 1)
    share = (borders - whole)[None, :, None]
    upto = sums[:, whole] * (1 - share) + sums[:, whole + 1] * share
    return np.diff(upto, axis=1) / (length / size)


def _by_pairs(values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Mix two neighbours as OpenCV does for areas where a side grows."""
    length = values.shape[1]
    scale = length / size
    first = np.floor(np.arange(size) * scale).astype(np.int64)
    share = np.arange(1, size + 1) - (first + 1) / scale
    share = np.where(share <= 0, 0.0, share - np.floor(share))[None, :, None]
    second = np.minimum(first + 1, length - 1)
    return values[:, np.minimum(first, length - 1)] * (1 - share) + values[:, second] * share
