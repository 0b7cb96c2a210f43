import numpy as np
import pytest
from PIL import Image

from server.engines.image.mask_blur import blurred, kernel
from tests.support.picture_files import disc

pytestmark = pytest.mark.torch


def test_the_kernel_of_the_default_blur() -> None:
    # OpenCV's getGaussianKernel(21, 4) in 8 bits with the rounding error carried on, worked out by hand.
    assert kernel(4) == [1, 2, 4, 5, 9, 11, 16, 19, 23, 25, 26, 25, 23, 19, 16, 11, 9, 5, 4, 2, 1]


@pytest.mark.parametrize("sigma", [0.1, 0.5, 1, 2, 3.7, 8, 33, 64, 200])
def test_kernels_are_whole(sigma: float) -> None:
    taps = kernel(sigma)
    assert len(taps) == 2 * int(2.5 * sigma + 0.5) + 1
    assert sum(taps) == 256
    assert taps == taps[::-1]
    assert min(taps) >= 0


def test_no_blur_leaves_the_mask() -> None:
    mask = disc(32)
    assert blurred(mask, 0, 0).tobytes() == mask.tobytes()


def test_axes_are_blurred_on_their_own() -> None:
    column = np.zeros((9, 21), dtype=np.uint8)
    column[:, 10] = 255
    across = np.asarray(blurred(Image.fromarray(column), 1, 0))
    assert (across == across[:1]).all()
    assert across[0, 8:13].tolist() == [(255 * tap + 128) >> 8 for tap in kernel(1)[1:-1]]
    assert np.array_equal(np.asarray(blurred(Image.fromarray(column), 0, 1)), column)


def test_borders_are_mirrored_without_their_edge() -> None:
    row = np.array([[200, 100, 0, 0, 0, 0]], dtype=np.uint8)
    taps = kernel(1)  # 7 of them
    mirrored = [0, 0, 100, 200, 100, 0, 0]
    wanted = (sum(tap * value for tap, value in zip(taps, mirrored, strict=True)) + 128) >> 8
    assert np.asarray(blurred(Image.fromarray(row), 1, 0))[0, 0] == wanted


def test_a_blur_wider_than_the_mask_and_a_mask_of_one_row() -> None:
    for size in ((5, 5), (1, 7), (7, 1), (1, 1)):
        white = Image.new("L", size, 255)
        assert np.asarray(blurred(white, 20, 20)).min() == 255


def test_near_a_real_gaussian() -> None:
    mask = disc(64, radius=20)
    made = np.asarray(blurred(mask, 3, 3)).astype(float)
    axis = np.arange(64)
    weights = np.exp(-0.5 * ((axis[:, None] - axis[None, :]) / 3.0) ** 2)
    weights /= weights.sum(1, keepdims=True)
    exact = weights @ np.asarray(mask) @ weights.T
    assert np.abs(made - exact)[12:-12, 12:-12].max() < 4
