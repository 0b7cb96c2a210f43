"""Drawings: lines and areas from brightness alone."""

import numpy as np
from numpy.typing import NDArray

from server.engines.image.preprocess.resampling import Pixels
from server.engines.image.preprocess.smoothing import gaussian

FINE, COARSE = 0.5, 5.0
"""Deviations whose difference finds strokes."""

SURROUNDINGS = 6.0
FAINT = 8
"""Levels below which a line does not count for what a usual line is."""

SOFT = 1.5
STEEPEST = 0.999

USUAL = 127
FAINTEST_USUAL = 16


def inverted(pixels: Pixels) -> Pixels:
    """Return the negative."""
    return 255 - pixels


def binarised(pixels: Pixels, threshold: float) -> Pixels:
    """Return white where all channels are above the threshold, else black."""
    return _white(pixels.min(axis=2) > threshold)


def scribbled(pixels: Pixels, threshold: float) -> Pixels:
    """Return strokes: white where the picture is darker than its surroundings by half the threshold, in a channel."""
    values = pixels.astype(np.float32)
    darker = (255 - (gaussian(values, COARSE) - gaussian(values, FINE)).min(axis=2)).clip(0, 255).astype(np.uint8)
    return _white(2 * (255 - darker.astype(np.int32)) > threshold)


def drawn(pixels: Pixels) -> Pixels:
    """Return dark lines on bright paper as white lines on black, a usual line half white."""
    values = pixels.astype(np.float32)
    depth = (gaussian(values, SURROUNDINGS) - values).min(axis=2).clip(0, 255)
    counted = depth[depth > FAINT]
    usual = max(float(np.median(counted)) if counted.size else 0.0, FAINTEST_USUAL)
    return _three((depth / usual * USUAL).clip(0, 255).astype(np.uint8))


def softened(pixels: Pixels) -> Pixels:
    """Return how steep the picture is at each place, white where it is steepest: edges without a network.

    Slopes are central differences of the picture blurred by `SOFT`, of the channel where they are steepest; a
    thousandth of all places may be steeper than white.
    """
    values = gaussian(pixels.astype(np.float32), SOFT)
    padded = np.pad(values, ((1, 1), (1, 1), (0, 0)), mode="edge")
    across, down = padded[1:-1, 2:] - padded[1:-1, :-2], padded[2:, 1:-1] - padded[:-2, 1:-1]
    steep = np.sqrt(across**2 + down**2).max(axis=2)
    white = max(float(np.quantile(steep, STEEPEST)), FAINT)
    return _three(np.rint(steep / white * 255).clip(0, 255).astype(np.uint8))


def _white(marks: NDArray[np.bool_]) -> Pixels:
    return _three(np.where(marks, 255, 0).astype(np.uint8))


def _three(plane: NDArray[np.uint8]) -> Pixels:
    return np.repeat(plane[:, :, None], 3, axis=2)
