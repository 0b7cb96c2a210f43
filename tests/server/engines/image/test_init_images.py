import numpy as np
import pytest
from PIL import Image

from server.core.errors import BadImage
from server.core.image import InitImages, Inpaint, Size
from server.engines.image.enlarging import Filter
from server.engines.image.init_images import prepared
from server.engines.image.masks import doubled
from server.engines.image.resizing import resized
from tests.support.picture_files import disc, file_of, noise_image

pytestmark = pytest.mark.torch

SIZE = Size(64, 64)
IMAGE = noise_image(64, 64)
MASK = disc(64)


def init(*images: Image.Image, **fields: object) -> InitImages:
    files = tuple(file_of(image) for image in images or (IMAGE,))
    return InitImages(**{"images": files, "strength": 0.5} | fields)  # type: ignore[arg-type]


def inpaint(mask: Image.Image = MASK, **fields: object) -> Inpaint:
    return Inpaint(**{"mask": file_of(mask), "blur_x": 0, "blur_y": 0} | fields)  # type: ignore[arg-type]


def test_pictures_alone() -> None:
    made = prepared(init(IMAGE, noise_image(90, 50)), SIZE)
    assert [source.picture.size for source in made.pictures] == [(64, 64), (64, 64)]
    assert made.pictures[0].picture.tobytes() == IMAGE.tobytes()
    assert (made.mask, made.place, made.pictures[0].overlay, made.blank_mask) == (None, None, None, False)


def test_latent_mode_keeps_the_pixels() -> None:
    assert prepared(init(noise_image(90, 50), resize="latent"), SIZE).pictures[0].picture.size == (90, 50)


def test_the_whole_picture_under_a_mask() -> None:
    (source,) = (made := prepared(init(inpaint=inpaint()), SIZE)).pictures
    assert source.picture.tobytes() == IMAGE.tobytes()
    assert made.mask is not None
    assert made.mask.tobytes() == MASK.tobytes()
    assert source.overlay is not None
    alpha = np.asarray(source.overlay)[..., 3]
    assert np.array_equal(alpha, 255 - np.asarray(MASK))


def test_the_overlay_mask_of_a_soft_mask_is_doubled() -> None:
    soft = inpaint(blur_x=4, blur_y=4)
    made = prepared(init(inpaint=soft), SIZE)
    assert made.mask is not None
    assert made.overlay_mask is not None
    assert made.overlay_mask.tobytes() == doubled(made.mask).tobytes()


def test_a_mask_of_another_size_is_brought_to_size() -> None:
    made = prepared(init(inpaint=inpaint(disc(128, radius=40))), SIZE)
    assert made.mask is not None
    assert made.mask.size == (64, 64)


def test_only_the_masked_part() -> None:
    big = noise_image(128, 128)
    mask = disc(128, radius=10, middle=(64, 64))
    (source,) = (made := prepared(init(big, inpaint=inpaint(mask, only_masked=True, padding=6)), SIZE)).pictures
    assert made.place is not None
    x, y, width, height = made.place
    assert (x, y, width, height) == (49, 49, 31, 31)
    assert source.picture.tobytes() == resized(big.crop((x, y, x + width, y + height)), SIZE, "fill").tobytes()
    assert source.whole.size == (128, 128)
    assert made.overlay_mask is not None
    assert made.overlay_mask.size == (128, 128)
    assert made.mask is not None
    assert made.mask.size == (64, 64)


def test_a_mask_smaller_than_its_picture_still_lays_over_it() -> None:
    made = prepared(init(noise_image(128, 128), inpaint=inpaint(disc(64), only_masked=True)), SIZE)
    assert made.overlay_mask is not None
    assert made.overlay_mask.size == (128, 128)


def test_a_black_mask_masks_nothing() -> None:
    black = Image.new("L", (64, 64))
    made = prepared(init(inpaint=inpaint(black, only_masked=True)), SIZE)
    assert made.blank_mask
    assert (made.mask, made.pictures[0].overlay) == (None, None)
    whole = prepared(init(inpaint=inpaint(black)), SIZE)
    assert not whole.blank_mask
    assert whole.mask is not None


@pytest.mark.parametrize("content", ["fill", "noise", "nothing"])
def test_all_other_contents_are_smeared_first(content: str) -> None:
    (source,) = prepared(init(inpaint=inpaint(content=content)), SIZE).pictures
    changed = (np.asarray(source.picture) != np.asarray(IMAGE)).any(-1)
    assert changed.any()
    assert not changed[np.asarray(MASK) == 0].any()
    assert source.whole.tobytes() == IMAGE.tobytes()


def test_another_mask_for_latents_is_taken_as_it_is() -> None:
    mask = disc(64, radius=20)
    asked = inpaint(disc(64, radius=6), invert=True, blur_x=4, latent_mask=file_of(mask), content="fill")
    made = prepared(init(inpaint=asked), SIZE)
    assert made.latent_mask is not None
    assert made.latent_mask.tobytes() == mask.tobytes()
    changed = (np.asarray(made.pictures[0].picture) != np.asarray(IMAGE)).any(-1)
    assert not changed[np.asarray(mask) == 0].any(), "surroundings are smeared in where it is white"
    assert changed[np.asarray(mask) == 255].mean() > 0.9
    assert prepared(init(inpaint=inpaint()), SIZE).latent_mask is None


def test_another_way_of_enlarging_takes_the_place_of_the_named_one() -> None:
    small = noise_image(16, 16)
    by = Filter(Image.Resampling.NEAREST)
    made = prepared(init(small, inpaint=inpaint(disc(16))), SIZE, by)
    assert made.pictures[0].picture.tobytes() == small.resize((64, 64), Image.Resampling.NEAREST).tobytes()
    assert made.mask is not None
    assert made.mask.tobytes() == disc(16).resize((64, 64), Image.Resampling.LANCZOS).tobytes()


def test_no_overlay_when_none_is_wanted() -> None:
    assert prepared(init(inpaint=inpaint(overlay=False)), SIZE).pictures[0].overlay is None


def test_transparency_of_a_picture_is_filled() -> None:
    clear = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    (source,) = prepared(init(clear, background=(1, 2, 3)), SIZE).pictures
    assert source.picture.getpixel((5, 5)) == (1, 2, 3)


def test_files_that_are_no_pictures_name_their_field() -> None:
    for fields, param in (({"images": (b"text",)}, "init_images"), ({"inpaint": Inpaint(mask=b"text")}, "mask")):
        with pytest.raises(BadImage) as caught:
            prepared(init(**fields), SIZE)
        assert caught.value.fact("param") == param
