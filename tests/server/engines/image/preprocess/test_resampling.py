import numpy as np
import pytest

from server.core.errors import BadImage
from server.engines.image.preprocess.resampling import Kernel, resized, resized_values, to_short_side
from tests.support.drawn_pixels import formula_picture

SMALL = formula_picture(6, 7)[:, :, :1]

OPENCV: dict[tuple[Kernel, int, int], list[list[int]]] = {
    ("cubic", 4, 3): [[3, 17, 47, 101], [18, 31, 62, 115], [33, 46, 76, 130]],
    ("area", 4, 3): [[5, 18, 49, 97], [19, 32, 63, 111], [33, 46, 77, 125]],
    ("cubic", 11, 9): [
        [0, 0, 3, 8, 16, 26, 38, 55, 71, 95, 110],
        [3, 3, 7, 11, 20, 30, 42, 59, 74, 98, 114],
        [8, 9, 12, 17, 25, 35, 47, 64, 80, 104, 119],
        [12, 13, 16, 21, 29, 39, 51, 68, 84, 108, 123],
        [17, 18, 21, 26, 34, 44, 56, 73, 89, 113, 128],
        [22, 23, 26, 31, 39, 49, 61, 78, 94, 118, 133],
        [26, 27, 30, 35, 43, 53, 65, 82, 98, 122, 137],
        [32, 33, 36, 40, 49, 59, 71, 88, 103, 128, 143],
        [35, 36, 39, 44, 52, 63, 74, 91, 107, 131, 146],
    ],
    ("area", 11, 9): [
        [0, 1, 3, 11, 16, 27, 42, 52, 75, 94, 108],
        [4, 5, 7, 14, 20, 31, 46, 55, 79, 97, 112],
        [7, 8, 10, 18, 23, 34, 49, 59, 82, 101, 115],
        [14, 15, 17, 25, 30, 41, 56, 66, 89, 108, 122],
        [18, 19, 21, 28, 34, 45, 60, 69, 93, 111, 126],
        [21, 22, 24, 32, 37, 48, 63, 73, 96, 115, 129],
        [28, 29, 31, 39, 44, 55, 70, 80, 103, 122, 136],
        [32, 33, 35, 42, 48, 59, 74, 83, 107, 125, 140],
        [35, 36, 38, 46, 51, 62, 77, 87, 110, 129, 143],
    ],
}
"""What `cv::resize` 4.6.0 makes of the first channel of the 6x7 picture."""


@pytest.mark.parametrize("kernel, width, height", OPENCV)
def test_as_opencv_within_a_level(kernel: Kernel, width: int, height: int) -> None:
    made = resized(SMALL, width, height, kernel)[:, :, 0].astype(int)
    assert np.abs(made - np.array(OPENCV[kernel, width, height])).max() <= 1


def test_nearest_takes_values_that_are_there() -> None:
    made = resized(SMALL, 3, 4, "nearest")
    assert np.array_equal(made, SMALL[[0, 1, 3, 4]][:, [0, 2, 4]])


def test_area_keeps_the_mean() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8)
    assert np.allclose(resized_values(pixels, 7, 11, "area").mean(axis=(0, 1)), pixels.mean(axis=(0, 1)), atol=1e-3)


def test_the_same_size_is_a_copy() -> None:
    made = resized(SMALL, 7, 6, "cubic")
    assert np.array_equal(made, SMALL)
    assert made is not SMALL


@pytest.mark.parametrize("size, resolution, wanted", [((40, 60), 20, (20, 30)), ((90, 30), 64, (192, 64))])
def test_the_short_side(size: tuple[int, int], resolution: int, wanted: tuple[int, int]) -> None:
    assert to_short_side(np.zeros((*size, 3), dtype=np.uint8), resolution).shape == (*wanted, 3)


def test_thin_pictures_do_not_become_huge() -> None:
    with pytest.raises(BadImage, match="1x900000 would become"):
        to_short_side(np.zeros((900_000, 1, 3), dtype=np.uint8), 512)


def test_nothing_vanishes() -> None:
    assert to_short_side(np.zeros((1, 900, 3), dtype=np.uint8), 1).shape == (1, 900, 3)
