import numpy as np

from server.engines.image.outpainting.matched_noise import matched
from tests.support.drawn_pixels import formula_picture


def case(height: int = 48, width: int = 64) -> tuple[np.ndarray, np.ndarray]:
    picture = formula_picture(height, width).astype(np.float64) / 255
    mask = np.zeros((height, width))
    mask[:, 40:] = 1
    return picture, mask


def test_the_picture_stays_and_the_room_is_filled_alike_each_time() -> None:
    picture, mask = case()
    found = matched(picture, mask, 1.0, 0.05)
    assert np.array_equal(found[:, :40], picture[:, :40])
    assert found[:, 40:].std() > 0.05
    assert np.array_equal(found, matched(picture, mask, 1.0, 0.05))
    hidden = picture.copy()
    hidden[:, 40:] = 0.5
    assert np.array_equal(found, matched(hidden, mask, 1.0, 0.05)), "what is under the mask does not count"


def test_the_room_has_the_levels_of_the_picture() -> None:
    _, mask = case()
    y, x = np.mgrid[:48, :64]
    picture = np.stack([(x + 2 * y) % 90 / 300, (x * y) % 101 / 200 + 0.4, (x + y) / 112], axis=2)
    found = matched(picture, mask, 1.0, 0.05)
    for channel in range(3):
        new, old = found[:, 40:, channel], picture[:, :40, channel]
        for share in (5, 25, 50, 75, 95):
            assert abs(np.percentile(new, share) - np.percentile(old, share)) < 0.04


def test_colours_vary_as_far_as_they_are_told_to() -> None:
    grey = np.repeat(formula_picture(48, 64)[:, :, :1].astype(np.float64) / 255, 3, axis=2)
    _, mask = case()
    spread = [
        np.abs(np.diff(matched(grey, mask, 1.0, variation)[:, 40:], axis=2)).mean() for variation in (0.0, 0.1, 1.0)
    ]
    assert spread[0] < 1e-9 < spread[1] < spread[2]


def test_a_higher_exponent_gives_coarser_noise() -> None:
    picture, mask = case()
    rough = [np.abs(np.diff(matched(picture, mask, detail, 0.05)[:, 41:], axis=1)).mean() for detail in (0.0, 1.0, 4.0)]
    assert rough[0] > rough[1] > rough[2]


def test_odd_pictures() -> None:
    black, (_, mask) = np.zeros((48, 64, 3)), case()
    assert np.isfinite(matched(black, mask, 1.0, 0.05)).all()
    assert not matched(black, np.ones((48, 64)), 1.0, 0.05).any(), "nothing is known"
    assert np.array_equal(matched(black + 0.5, np.zeros((48, 64)), 1.0, 0.05), black + 0.5)
