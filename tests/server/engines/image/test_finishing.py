import numpy as np
import pytest
import torch
from PIL import Image

from server.core.image import InitImages, Inpaint, Size, SoftInpaint
from server.engines.image.finishing import Finishing
from server.engines.image.init_images import prepared
from server.engines.image.inpaint import Blend
from tests.support.picture_files import disc, file_of, noise_image

pytestmark = pytest.mark.torch

SIZE = Size(64, 64)
OLD = noise_image(64, 64)
NEW = Image.new("RGB", (64, 64), (250, 10, 10))
LATENT = torch.zeros(4, 8, 8)


def finishing(
    old: Image.Image = OLD, asked: Inpaint | None = None, blend: Blend | None = None, **fields: object
) -> Finishing:
    init = InitImages(**{"images": (file_of(old),), "strength": 0.5, "inpaint": asked} | fields)  # type: ignore[arg-type]
    return Finishing(sources=prepared(init, SIZE), asked=asked, blend=blend, size=SIZE)


def inpaint(mask: Image.Image, **fields: object) -> Inpaint:
    return Inpaint(**{"mask": file_of(mask), "blur_x": 0, "blur_y": 0} | fields)  # type: ignore[arg-type]


def test_without_a_mask_the_result_is_the_result() -> None:
    done = finishing().finished(NEW, LATENT, 0)
    assert (done.image.tobytes(), done.further) == (NEW.tobytes(), ())


def test_old_pixels_are_laid_around_the_mask() -> None:
    mask = disc(64)
    made = np.asarray(finishing(asked=inpaint(mask)).finished(NEW, LATENT, 0).image)
    inside = np.asarray(mask) == 255
    assert (made[inside] == (250, 10, 10)).all()
    assert np.array_equal(made[~inside], np.asarray(OLD)[~inside])


def test_without_an_overlay_the_result_stands_alone() -> None:
    asked = inpaint(disc(64), overlay=False)
    assert finishing(asked=asked).finished(NEW, LATENT, 0).image.tobytes() == NEW.tobytes()


def test_only_the_masked_part_goes_back_into_the_whole() -> None:
    big = noise_image(128, 128)
    mask = disc(128, radius=12, middle=(40, 50))
    done = finishing(big, inpaint(mask, only_masked=True)).finished(NEW, LATENT, 0)
    made = np.asarray(done.image)
    inside = np.asarray(mask) == 255
    assert made.shape == (128, 128, 3)
    assert (made[inside] == (250, 10, 10)).all()
    assert np.array_equal(made[~inside], np.asarray(big)[~inside])


def test_masks_and_composites_are_handed_over_when_wanted() -> None:
    mask = disc(64)
    asked = inpaint(mask, return_mask=True, return_composite=True)
    shown, alone = finishing(asked=asked).finished(NEW, LATENT, 0).further
    assert shown.tobytes() == mask.convert("RGB").tobytes()
    assert alone.mode == "RGBA"
    assert np.array_equal(np.asarray(alone)[..., 3], np.asarray(mask))
    assert alone.getpixel((32, 32)) == (250, 10, 10, 255)


def test_each_picture_of_a_batch_has_its_own_source() -> None:
    asked = inpaint(disc(64))
    other = noise_image(64, 64, seed=5)
    init = InitImages(images=(file_of(OLD), file_of(other)), strength=0.5, inpaint=asked)
    made = Finishing(sources=prepared(init, SIZE), asked=asked, blend=None, size=SIZE)
    corners = [made.finished(NEW, LATENT, k).image.getpixel((0, 0)) for k in (0, 1)]
    assert corners == [OLD.getpixel((0, 0)), other.getpixel((0, 0))]


def test_colours_are_matched_before_the_overlay() -> None:
    grey = noise_image(64, 64, seed=2).convert("L").convert("RGB")
    made = np.asarray(
        finishing(grey, match_colours=True).finished(noise_image(64, 64, seed=3), LATENT, 0).image
    ).astype(int)
    assert np.abs(made[..., 0] - made[..., 2]).mean() < 8


def test_soft_inpainting_keeps_what_has_not_changed() -> None:
    old, new = torch.zeros(1, 4, 8, 8), torch.zeros(4, 8, 8)
    new[:, :, 6:] = 9.0
    asked = inpaint(Image.new("L", (64, 64), 255), soft=SoftInpaint())
    done = finishing(asked=asked, blend=Blend(old, torch.ones(8, 8), asked.soft)).finished(NEW, new, 0)
    made = np.asarray(done.image).astype(int)
    assert np.abs(made[:, :8] - np.asarray(OLD).astype(int)[:, :8]).mean() < 5
    assert np.abs(made[:, -8:] - [250, 10, 10]).mean() < 5


def test_soft_inpainting_of_the_masked_part_alone() -> None:
    big = noise_image(128, 128)
    asked = inpaint(disc(128, radius=12, middle=(40, 50)), only_masked=True, soft=SoftInpaint(), return_mask=True)
    blend = Blend(torch.zeros(1, 4, 8, 8), torch.ones(8, 8), asked.soft)
    done = finishing(big, asked, blend).finished(NEW, torch.full((4, 8, 8), 9.0), 0)
    made = np.asarray(done.image)
    assert (made[100:, 100:] == np.asarray(big)[100:, 100:]).all()
    assert (made[50, 40] == (250, 10, 10)).all()
    assert done.further[0].size == (128, 128)
