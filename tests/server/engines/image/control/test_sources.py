from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image

from server.core.errors import BadImage
from server.core.image import ControlUnit, ImageRequest, InitImages, Inpaint, Preprocessing, Seeds, Size
from server.core.prompt import plain
from server.engines.image.control.sources import source_of
from tests.support.picture_files import file_of, noise_image

OWN, JOB = noise_image(40, 30, seed=1), noise_image(64, 48, seed=2)
INPAINT = Preprocessing(module="inpaint")


def unit(**fields: Any) -> ControlUnit:
    return ControlUnit(**{"name": "c", "path": "/c"} | fields)


def request(init: InitImages | None = None) -> ImageRequest:
    words = plain("a cat")
    return ImageRequest(model="m", prompt=words, negative=words, size=Size(64, 48), seeds=Seeds(first=1), init=init)


def job(mask: Image.Image | None = None, resize: Any = "crop", **fields: Any) -> ImageRequest:
    inpaint = None if mask is None else Inpaint(mask=file_of(mask), blur_x=0, blur_y=0, **fields)
    return request(InitImages(images=(file_of(JOB),), strength=0.5, resize=resize, inpaint=inpaint))


def marked(width: int = 64, height: int = 48) -> Image.Image:
    mask = Image.new("L", (width, height))
    mask.paste(255, (16, 12, 32, 24))
    return mask


def test_its_own_picture_with_its_own_fit() -> None:
    found = source_of(unit(image=file_of(OWN), fit="fill"), request())
    assert np.array_equal(found.pixels, np.asarray(OWN))
    assert (found.mask, found.fit, found.preprocessing.module) == (None, "fill", "none")


def test_transparent_pictures_lie_on_white() -> None:
    found = source_of(unit(image=file_of(Image.new("RGBA", (4, 4), (0, 0, 0, 0)))), request())
    assert (found.pixels == 255).all()


@pytest.mark.parametrize(
    "resize, fit", [("stretch", "stretch"), ("crop", "crop"), ("fill", "fill"), ("latent", "stretch")]
)
def test_the_jobs_picture_with_the_jobs_fit(resize: str, fit: str) -> None:
    found = source_of(unit(fit="crop"), job(resize=resize))
    assert np.array_equal(found.pixels, np.asarray(JOB))
    assert found.fit == fit


def test_a_mask_takes_the_place_of_the_picture_of_modules_that_do_not_inpaint() -> None:
    mask = marked(40, 30)
    asked = Preprocessing(module="canny")
    found = source_of(unit(image=file_of(OWN), mask=file_of(mask), preprocessing=asked), request())
    assert np.array_equal(found.pixels[:, :, 0], np.asarray(mask))
    assert (found.mask, found.preprocessing.module) == (None, "none")


@pytest.mark.parametrize("level", [0, 5, 250, 255])
def test_a_mask_of_one_level_marks_nothing(level: int) -> None:
    even = file_of(Image.new("L", (40, 30), level))
    found = source_of(unit(image=file_of(OWN), mask=even, preprocessing=Preprocessing(module="canny")), request())
    assert np.array_equal(found.pixels, np.asarray(OWN))
    assert source_of(unit(image=file_of(OWN), mask=even, preprocessing=INPAINT), request()).mask is None


def test_masks_of_inpainting_modules() -> None:
    own = source_of(unit(image=file_of(OWN), mask=file_of(marked(80, 60)), preprocessing=INPAINT), request())
    assert own.mask is not None
    assert own.mask.shape == (30, 40)
    borrowed = source_of(unit(preprocessing=INPAINT), job(marked()))
    assert borrowed.mask is not None
    assert np.array_equal(borrowed.mask, np.asarray(marked()))
    other_size = source_of(unit(image=file_of(OWN), preprocessing=INPAINT), job(marked()))
    assert other_size.mask is None


def test_a_job_that_inpaints_restores_by_itself() -> None:
    only = Preprocessing(module="inpaint_only", seed=4)
    assert source_of(unit(preprocessing=only), job(marked())).preprocessing == msgspec.structs.replace(
        only, module="inpaint"
    )
    assert source_of(unit(preprocessing=only), job()).preprocessing == only


def test_only_what_is_masked_is_cut_out() -> None:
    cut = source_of(unit(preprocessing=INPAINT), job(marked(), only_masked=True))
    assert cut.pixels.shape == (48, 64, 3)
    assert cut.mask is not None
    assert cut.mask.min() == 255, "the region is the mask's own box"
    inside = np.asarray(JOB.crop((16, 12, 32, 24)).resize((64, 48), Image.Resampling.LANCZOS))
    assert np.array_equal(cut.pixels, inside)
    whole = source_of(unit(crop_to_mask=False), job(marked(), only_masked=True))
    assert np.array_equal(whole.pixels, np.asarray(JOB))
    nothing = source_of(unit(), job(Image.new("L", (64, 48)), only_masked=True))
    assert np.array_equal(nothing.pixels, np.asarray(JOB))


def test_what_is_no_picture() -> None:
    for fields in ({"image": b"x"}, {"image": file_of(OWN), "mask": b"x"}):
        with pytest.raises(BadImage) as caught:
            source_of(unit(**fields), request())
        assert caught.value.fact("param") == "control"
