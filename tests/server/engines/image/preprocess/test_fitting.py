import numpy as np
import pytest

from server.core.errors import BadImage
from server.core.image import ControlFit
from server.engines.image.preprocess.fitting import fitted, perfect_resolution


def halves(width: int, height: int) -> np.ndarray:
    """Left black, right white."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[:, width // 2 :] = 255
    return pixels


@pytest.mark.parametrize("fit", ["stretch", "crop", "fill"])
@pytest.mark.parametrize("size", [(64, 64), (33, 90), (200, 48)])
def test_sizes(fit: ControlFit, size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    assert fitted(pixels, *size, fit).shape == (size[1], size[0], 3)


def test_crop_cuts_both_sides_and_fill_adds_the_border_colour() -> None:
    pixels = np.full((20, 40, 3), 9, dtype=np.uint8)
    pixels[5:15, 10:30] = np.random.default_rng(0).integers(0, 256, (10, 20, 3), dtype=np.uint8)
    cropped = fitted(pixels, 20, 20, "crop")
    assert np.array_equal(cropped, pixels[:, 10:30])
    filled = fitted(pixels, 40, 40, "fill")
    assert np.array_equal(filled[10:30], pixels)
    assert (filled[:10] == 9).all()
    assert (filled[30:] == 9).all()


def test_thin_pictures_do_not_become_huge() -> None:
    with pytest.raises(BadImage):
        fitted(np.zeros((1, 90_000, 3), dtype=np.uint8), 512, 512, "crop")


def test_areas_of_few_colours_keep_them() -> None:
    pixels = np.random.default_rng(0).choice(np.array([0, 40, 80, 250], dtype=np.uint8), (30, 30, 1)).repeat(3, axis=2)
    assert set(np.unique(fitted(pixels, 77, 50, "stretch"))) == {0, 40, 80, 250}


@pytest.mark.parametrize("size", [(21, 17), (97, 113)])
def test_black_and_white_stays_that(size: tuple[int, int]) -> None:
    made = fitted(halves(60, 40), *size, "stretch")
    assert set(np.unique(made)) == {0, 255}
    assert made[:, : size[0] // 2 - 1].max() == 0
    assert made[:, size[0] // 2 + 1 :].min() == 255


def test_lines_of_one_pixel_stay_thin_when_they_grow() -> None:
    pixels = np.zeros((40, 40, 3), dtype=np.uint8)
    pixels[20, 4:36] = 255
    made = fitted(pixels, 120, 120, "stretch")
    assert ((made[:, 30:90, 0] > 0).sum(axis=0) == 1).all()


def test_what_is_open_stays_open_and_what_is_added_is_open() -> None:
    pixels = np.full((20, 40, 4), 90, dtype=np.uint8)
    pixels[:, :, 3] = 0
    pixels[5:10, 5:10, 3] = 255
    made = fitted(pixels, 40, 40, "fill")
    assert set(np.unique(made[:, :, 3])) == {0, 255}
    assert (made[:10, :, 3] == 255).all()
    assert (made[15:20, 5:10, 3] == 255).all()
    assert (made[10:30, 15:, 3] == 0).all()


@pytest.mark.parametrize(
    "width, height, wanted, fit, resolution",
    [(100, 50, (512, 512), "crop", 512), (100, 50, (512, 512), "fill", 256), (800, 600, (400, 400), "stretch", 400)],
)
def test_the_resolution_that_needs_no_resizing(
    width: int, height: int, wanted: tuple[int, int], fit: ControlFit, resolution: int
) -> None:
    assert perfect_resolution(width, height, wanted, fit) == resolution
