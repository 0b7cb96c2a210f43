import numpy as np
import pytest
from PIL import Image

from server.core.image import Inpaint, Size
from server.engines.image.masks import cut, doubled, holed, latent_mask, mask_of, region_of, shades_of, smeared
from server.engines.image.resizing import Place
from tests.support.picture_files import disc, noise_image

pytestmark = pytest.mark.torch


def asked(**fields: object) -> Inpaint:
    return Inpaint(**{"mask": b"", "blur_x": 0, "blur_y": 0} | fields)  # type: ignore[arg-type]


def with_alpha(*alphas: int) -> Image.Image:
    image = Image.new("RGBA", (len(alphas), 1), (255, 255, 255, 255))
    for x, alpha in enumerate(alphas):
        image.putpixel((x, 0), (10, 20, 30, alpha))
    return image


def values(mask: Image.Image) -> list[int]:
    return np.asarray(mask).reshape(-1).tolist()


def test_transparency_is_the_mask_where_there_is_any() -> None:
    assert values(shades_of(with_alpha(0, 128, 129, 255), rounded=True)) == [0, 0, 255, 255]
    assert values(shades_of(with_alpha(0, 128, 129, 255), rounded=False)) == [0, 128, 129, 255]


def test_brightness_is_the_mask_elsewhere_and_is_never_rounded() -> None:
    assert values(shades_of(with_alpha(255, 255), rounded=True)) == [round(0.299 * 10 + 0.587 * 20 + 0.114 * 30)] * 2
    assert values(shades_of(Image.new("L", (1, 1), 77), rounded=True)) == [77]


def test_inverting_comes_before_blurring() -> None:
    made = mask_of(disc(40), asked(invert=True))
    assert values(made) == [255 - value for value in values(disc(40))]
    soft = np.asarray(mask_of(disc(40), asked(invert=True, blur_x=2, blur_y=2)))
    assert 0 < soft[20, 10] < 255


def test_doubling_saturates() -> None:
    shades = Image.fromarray(np.array([[0, 1, 127, 128, 255]], dtype=np.uint8))
    assert values(doubled(shades)) == [0, 2, 254, 255, 255]
    assert doubled(shades.convert("RGB")).mode == "L"


def box(width: int, height: int, where: tuple[int, int, int, int]) -> Image.Image:
    mask = Image.new("L", (width, height))
    mask.paste(255, where)
    return mask


@pytest.mark.parametrize(
    ("mask", "padding", "shape", "wanted"),
    [
        # square already
        (box(100, 100, (40, 40, 60, 60)), 0, Size(64, 64), Place(40, 40, 20, 20)),
        (box(100, 100, (40, 40, 60, 60)), 8, Size(64, 64), Place(32, 32, 36, 36)),
        # grown to the shape about its middle, the odd pixel behind
        (box(100, 100, (40, 40, 60, 50)), 0, Size(64, 64), Place(40, 35, 20, 20)),
        (box(100, 100, (40, 40, 61, 50)), 0, Size(64, 64), Place(40, 35, 21, 21)),
        (box(100, 100, (40, 40, 50, 60)), 0, Size(96, 64), Place(30, 40, 30, 20)),
        # moved back into the picture
        (box(100, 100, (40, 0, 60, 10)), 0, Size(64, 64), Place(40, 0, 20, 20)),
        (box(100, 100, (40, 95, 60, 100)), 0, Size(64, 64), Place(40, 80, 20, 20)),
        # no room for the shape: as much as there is
        (box(100, 40, (0, 0, 100, 5)), 0, Size(64, 64), Place(0, 0, 100, 40)),
        # padding stops at the edges
        (box(100, 100, (2, 2, 98, 98)), 50, Size(64, 64), Place(0, 0, 100, 100)),
        (box(100, 100, (0, 0, 0, 0)), 9, Size(64, 64), None),
    ],
)
def test_the_region_around_a_mask(mask: Image.Image, padding: int, shape: Size, wanted: Place | None) -> None:
    assert region_of(mask, padding, shape) == wanted


def test_cutting_beyond_the_edge_is_black() -> None:
    made = cut(Image.new("RGB", (4, 4), "white"), Place(2, 2, 4, 4))
    assert made.size == (4, 4)
    assert [made.getpixel((0, 0)), made.getpixel((3, 3))] == [(255, 255, 255), (0, 0, 0)]


def test_a_hole_is_as_deep_as_the_mask_is_white() -> None:
    mask = Image.fromarray(np.array([[0, 100, 255]], dtype=np.uint8))
    made = np.asarray(holed(Image.new("RGB", (3, 1), (200, 100, 50)), mask))
    assert made[0, :, 3].tolist() == [255, 155, 0]
    assert np.abs(made[0, 1, :3].astype(int) - [200, 100, 50]).max() <= 2


def test_surroundings_are_smeared_into_the_hole_alone() -> None:
    image = noise_image(64, 64)
    image.paste((255, 0, 0), (20, 20, 44, 44))
    mask = box(64, 64, (20, 20, 44, 44))
    made = np.asarray(smeared(image, mask)).astype(int)
    outside = np.asarray(mask) == 0
    assert np.array_equal(made[outside], np.asarray(image).astype(int)[outside])
    inside = made[24:40, 24:40].reshape(-1, 3)
    assert np.abs(inside.mean(0) - np.asarray(image)[outside].mean(0)).max() < 40


def test_masks_of_latents_are_whole_when_rounded() -> None:
    mask = disc(64, radius=21)
    soft, hard = (latent_mask(mask, 8, 8, rounded=rounded) for rounded in (False, True))
    assert hard.unique().tolist() == [0.0, 1.0]
    assert len(soft.unique()) > 2
    assert (hard == soft.round()).all()
    assert latent_mask(mask, 4, 9, rounded=True).shape == (4, 9)
