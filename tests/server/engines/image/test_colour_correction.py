import numpy as np
import pytest
from PIL import Image

from server.engines.image.colour_correction import colours_of, corrected, from_lab, matched_levels, to_lab
from tests.support.picture_files import noise_image

pytestmark = pytest.mark.torch


def exact_lab(rgb: np.ndarray) -> np.ndarray:
    """CIE Lab with D65 by its definition, scaled to bytes."""
    unit = rgb / 255
    linear = np.where(unit <= 0.04045, unit / 12.92, ((unit + 0.055) / 1.055) ** 2.4)
    xyz = linear @ np.array(
        [[0.412453, 0.212671, 0.019334], [0.35758, 0.71516, 0.119193], [0.180423, 0.072169, 0.950227]]
    )
    f = xyz / [0.950456, 1.0, 1.088754]
    f = np.where(f > 216 / 24389, np.cbrt(f), f * 841 / 108 + 16 / 116)
    lightness = 116 * f[..., 1] - 16
    return np.stack(
        [lightness * 2.55, 500 * (f[..., 0] - f[..., 1]) + 128, 200 * (f[..., 1] - f[..., 2]) + 128], axis=-1
    )


def test_lab_by_its_definition() -> None:
    rgb = np.random.default_rng(1).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    gap = np.abs(to_lab(rgb) - exact_lab(rgb))
    assert gap.max() < 3  # dark colours have few levels of linear light
    assert gap.mean() < 0.3


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [
        ((255, 255, 255), (255, 128, 128)),
        ((0, 0, 0), (0, 128, 128)),
        ((255, 0, 0), (136, 208, 195)),
        ((0, 255, 0), (224, 42, 211)),
        ((0, 0, 255), (82, 207, 20)),
    ],
)
def test_the_corners(rgb: tuple[int, int, int], lab: tuple[int, int, int]) -> None:
    """OpenCV's well-known 8-bit values of the primaries."""
    assert to_lab(np.array([[rgb]], dtype=np.uint8)).reshape(-1).tolist() == list(lab)


def test_there_and_back() -> None:
    rgb = np.random.default_rng(2).integers(60, 200, (100, 100, 3), dtype=np.uint8)
    back = from_lab(to_lab(rgb))
    assert np.abs(back.astype(int) - rgb).mean() < 1
    grey = np.arange(256, dtype=np.uint8)[:, None].repeat(3, 1)
    assert np.abs(from_lab(to_lab(grey)).astype(int) - grey).max() <= 2


def test_levels_take_the_wanted_distribution() -> None:
    source = np.array([0, 0, 1, 1, 9, 9], dtype=np.uint8)
    wanted = np.array([10, 10, 20, 20, 30, 30], dtype=np.uint8)
    assert matched_levels(source, wanted).tolist() == [10, 10, 20, 20, 30, 30]
    # Between two shares the level is interpolated and rounded down.
    assert matched_levels(np.array([3, 4], dtype=np.uint8), np.array([10, 20, 21], dtype=np.uint8)).tolist() == [15, 21]


def tinted(seed: int, *divisors: int) -> Image.Image:
    parts = [np.asarray(noise_image(48, 48, seed=seed))[..., i] // divisor for i, divisor in enumerate(divisors)]
    return Image.fromarray(np.stack(parts, axis=-1))


def test_a_result_takes_colours_and_keeps_its_brightness() -> None:
    red, blue = tinted(1, 1, 3, 4), tinted(3, 4, 3, 1)
    made, before = (np.asarray(image).astype(float) for image in (corrected(red, colours_of(blue)), red))
    weights = [0.299, 0.587, 0.114]
    assert np.abs(made @ weights - before @ weights).max() < 1.5
    assert before[..., 0].mean() > before[..., 2].mean() + 50
    assert made[..., 2].mean() > made[..., 0].mean() + 20


def test_its_own_colours_change_nearly_nothing() -> None:
    image = noise_image(64, 64)
    made = np.asarray(corrected(image, colours_of(image))).astype(int)
    assert np.abs(made - np.asarray(image)).mean() < 2
