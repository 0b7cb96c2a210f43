import numpy as np
import pytest

from server.engines.image.preprocess.colours import intensity, luminance
from tests.support.drawn_pixels import formula_picture

OPENCV = [[0, 2, 6, 10], [6, 10, 196, 20], [14, 196, 196, 196], [26, 32, 196, 45]]
"""L of the 4x4 picture by OpenCV 4.6.0 with red and blue exchanged (COLOR_BGR2Lab on red, green, blue)."""


def test_lightness_as_opencv_within_a_level() -> None:
    made = luminance(formula_picture(4, 4), 1.0)
    assert np.abs(made[:, :, 0].astype(int) - OPENCV).max() <= 1
    assert np.array_equal(made[:, :, 0], made[:, :, 2])


@pytest.mark.parametrize("make", [luminance, intensity])
def test_gamma_darkens(make: object) -> None:
    grey = np.full((2, 2, 3), 128, dtype=np.uint8)
    one, two = (int(make(grey, gamma)[0, 0, 0]) for gamma in (1.0, 2.0))  # type: ignore[operator]
    assert two == pytest.approx(one * one / 255, abs=1.5)


def test_the_largest_channel_counts() -> None:
    assert intensity(np.array([[[10, 200, 30]]], dtype=np.uint8), 1.0).tolist() == [[[200] * 3]]
