"""Gaussian blur of masks in 8-bit fixed point, to the last level as OpenCV does it, which A1111 blurs masks with.

The kernel has 2 * int(2.5 sigma + 0.5) + 1 taps in 1/256; what rounding takes from one tap is given to the next one
towards the middle, and the middle makes the sum 256. Sums are rounded once. Borders are mirrored without their edge.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

ONE = 256
"""1.0 in the kernel's fixed point."""

MOST_BLUR = 256.0
"""The largest deviation that is worth its time: taps grow with it."""


def blurred(mask: Image.Image, blur_x: float, blur_y: float) -> Image.Image:
    """Return the mask (mode L) blurred by these deviations in pixels, first along x; 0 leaves that axis alone."""
    pixels = np.asarray(mask)
    if blur_x > 0:
        pixels = _along(pixels, blur_x, axis=1)
    if blur_y > 0:
        pixels = _along(pixels, blur_y, axis=0)
    return Image.fromarray(pixels)


def kernel(sigma: float) -> list[int]:
    """Return the taps, in 1/256."""
    half = int(2.5 * sigma + 0.5)
    values = np.exp(-0.5 * (np.arange(-half, half + 1) / sigma) ** 2)
    values /= values.sum()
    side: list[int] = []
    owed = 0.0
    for value in values[:half]:
        wanted = float(value) * ONE + owed
        side.append(round(wanted))
        owed = wanted - side[-1]
    return [*side, ONE - 2 * sum(side), *reversed(side)]


def _along(pixels: NDArray[np.uint8], sigma: float, axis: int) -> NDArray[np.uint8]:
    taps = kernel(sigma)
    half = len(taps) // 2
    margin = [(half, half) if each == axis else (0, 0) for each in range(2)]
    padded = np.pad(pixels, margin, mode="reflect" if pixels.shape[axis] > 1 else "edge").astype(np.int32)
    length = pixels.shape[axis]
    total = np.full(pixels.shape, ONE // 2, dtype=np.int32)
    for start, tap in enumerate(taps):
        if tap:
            total += tap * np.take(padded, range(start, start + length), axis=axis)
    return (total >> 8).clip(0, 255).astype(np.uint8)
