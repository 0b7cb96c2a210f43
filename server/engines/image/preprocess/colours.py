"""Pictures without their colours, for models that colour them anew."""

import numpy as np
from numpy.typing import NDArray

from server.engines.image.preprocess.resampling import Pixels

SHARES = np.array([0.072169, 0.715160, 0.212671], dtype=np.float32)
"""Red, green and blue in the brightness Y. Red and blue stand the other way round than in sRGB, for the models were
made for maps by a program that read them so."""


def luminance(pixels: Pixels, gamma: float) -> Pixels:
    """Return L of CIE Lab, raised to `gamma`."""
    values = pixels[:, :, :3].astype(np.float32) / 255
    linear = np.where(values > 0.04045, ((values + 0.055) / 1.055) ** 2.4, values / 12.92)
    y = linear @ SHARES
    lightness = np.where(y > 0.008856, 116 * np.cbrt(y) - 16, 903.3 * y)
    return _grey(np.rint(lightness * 2.55), gamma)


def intensity(pixels: Pixels, gamma: float) -> Pixels:
    """Return V of HSV, the largest channel, raised to `gamma`."""
    return _grey(pixels[:, :, :3].max(axis=2).astype(np.float32), gamma)


def _grey(levels: NDArray[np.float32], gamma: float) -> Pixels:
    plane = ((levels / 255) ** gamma * 255).clip(0, 255).astype(np.uint8)
    return np.repeat(plane[:, :, None], 3, axis=2)
