import numpy as np
import pytest

from server.engines.image.preprocess.smoothing import gaussian, mean, swollen
from tests.support.drawn_pixels import formula_picture

OPENCV = {(16, 16): (119.22264, 220.0, 65.610954), (10, 20): (143.9863, 218.07379, 97.757828)}
"""Places of the 32x32 picture after OpenCV 4.6.0's Gaussian of 1.5 pixels on float32."""


def test_as_opencv() -> None:
    made = gaussian(formula_picture(32, 32).astype(np.float32), 1.5)
    for place, wanted in OPENCV.items():
        assert made[place] == pytest.approx(wanted, abs=1e-3)


@pytest.mark.parametrize("sigma", [0.6, 9.0, 40.0])
def test_sums_and_frequencies_agree_with_the_formula(sigma: float) -> None:
    point = np.zeros((1, 401, 1), dtype=np.float32)
    point[0, 200] = 1
    around = np.arange(-200, 201)
    curve = np.exp(-0.5 * (around / sigma) ** 2)
    assert gaussian(point, sigma)[0, :, 0] == pytest.approx(curve / curve.sum(), abs=2e-4)


def test_even_pictures_stay_even_to_their_borders() -> None:
    pixels = np.full((5, 40, 3), 77, dtype=np.uint8)
    for sigma in (1.0, 30.0):
        assert gaussian(pixels, sigma) == pytest.approx(77.0, abs=1e-3)


def test_mean_and_swelling() -> None:
    plane = np.zeros((7, 7), dtype=np.float32)
    plane[3, 3] = 9
    assert np.array_equal(swollen(plane, 3) > 0, np.pad(np.ones((3, 3), dtype=np.bool_), 2))
    assert mean(plane, 3)[2:5, 2:5] == pytest.approx(1.0)
    assert mean(plane, 3).sum() == pytest.approx(9.0)
