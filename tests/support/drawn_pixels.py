"""A picture made by a formula, for which OpenCV 4.6's results were written down."""

import numpy as np
from numpy.typing import NDArray


def formula_picture(height: int, width: int) -> NDArray[np.uint8]:
    """Return [height, width, 3]: a disc on stripes, every channel another pattern."""
    y, x = np.mgrid[:height, :width]
    inside = (x - width / 2) ** 2 + (y - height / 2) ** 2 < (height / 3) ** 2
    channels = (x * x * 3 + y * 7) % 256, np.where(inside, 220, (x * 5 + y * 11) % 97), (x * y) % 200
    return np.stack(channels, axis=2).astype(np.uint8)
