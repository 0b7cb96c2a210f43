"""A picture flowed into itself: its colours stay, its shapes are lost."""

import numpy as np
from numpy.typing import NDArray

from server.engines.image.preprocess.resampling import Pixels, resized_values, rounded

CELL = 256
"""Pixels between the random numbers that the flow is made of."""


def shuffled(pixels: Pixels, seed: int) -> Pixels:
    """Return the picture with each place taken from where two smooth random fields point."""
    height, width = pixels.shape[:2]
    dice = np.random.RandomState(seed & 0xFFFFFFFF)
    x = _field(dice, height, width) * (width - 1)
    y = _field(dice, height, width) * (height - 1)
    left, top = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    right, below = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    across, down = (x - left)[:, :, None], (y - top)[:, :, None]
    upper = pixels[top, left] * (1 - across) + pixels[top, right] * across
    lower = pixels[below, left] * (1 - across) + pixels[below, right] * across
    return rounded((upper * (1 - down) + lower * down).astype(np.float32))


def _field(dice: np.random.RandomState, height: int, width: int) -> NDArray[np.float64]:
    """Return smooth numbers of 0 ... 1, the least and the largest of them reached."""
    coarse = dice.uniform(0, 1, (height // CELL + 2, width // CELL + 2, 1))
    fine = resized_values(coarse, width + 2 * CELL, height + 2 * CELL, "cubic")[..., 0].astype(np.float64)
    fine = fine[CELL : CELL + height, CELL : CELL + width]
    spread = float(np.ptp(fine))
    return (fine - fine.min()) / spread if spread > 0 else np.zeros_like(fine)
