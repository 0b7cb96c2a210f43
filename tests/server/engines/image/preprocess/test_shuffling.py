import numpy as np

from server.engines.image.preprocess.shuffling import shuffled
from tests.support.drawn_pixels import formula_picture


def test_dice_decide() -> None:
    pixels = formula_picture(60, 90)
    one, again, other = (shuffled(pixels, seed) for seed in (5, 5, 6))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    assert not np.array_equal(one, pixels)


def test_colours_stay_within_those_of_the_picture() -> None:
    pixels = np.full((40, 40, 3), (10, 20, 30), dtype=np.uint8)
    assert np.array_equal(shuffled(pixels, 2**40), pixels)


def test_both_ends_of_the_picture_are_reached() -> None:
    ramp = np.repeat(np.arange(200, dtype=np.uint8)[None, :, None], 200, axis=0).repeat(3, axis=2)
    made = shuffled(ramp, 1)
    assert (made.min(), made.max()) == (0, 199)
