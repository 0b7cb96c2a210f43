"""The picture and mask that a unit works on: its own, or those of the job's beginning, cut as the job's are."""

from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from server.core.image import ControlFit, ControlUnit, ImageRequest, Inpaint, Preprocessing, ResizeMode, Size
from server.engines.image import masks
from server.engines.image.preprocess.modules import INPAINTING
from server.engines.image.preprocess.resampling import Pixels
from server.engines.image.resizing import resized
from server.engines.input_pictures import decoded, flattened

WHITE = (255, 255, 255)

BLACKEST, WHITEST = 5, 250
"""A mask whose levels all lie below the first, or all above the second, marks nothing."""

PARAM = "control"

FITS: dict[ResizeMode, ControlFit] = {"stretch": "stretch", "crop": "crop", "fill": "fill", "latent": "stretch"}


@dataclass(frozen=True, kw_only=True)
class Source:
    """A unit's picture [height, width, 3], what inpainting modules leave open [height, width], and what is done."""

    pixels: Pixels
    mask: NDArray[np.uint8] | None
    preprocessing: Preprocessing
    fit: ControlFit


@dataclass(frozen=True, kw_only=True)
class _Pictures:
    image: Image.Image
    mask: Image.Image | None
    fit: ControlFit


def source_of(unit: ControlUnit, request: ImageRequest) -> Source:
    """Return what a unit works on.

    A mask takes the place of the picture of a module that does not inpaint. In a job that inpaints by itself,
    `inpaint_only` is `inpaint`, for the job restores what is around its mask.

    Raises:
        BadImage: a file is no picture, or too thin.
    """
    asked = unit.preprocessing
    inpaint = None if request.init is None else request.init.inpaint
    job_mask = None if inpaint is None else masks.mask_of(decoded(inpaint.mask, "mask"), inpaint)
    found = _own(unit) if unit.image is not None else _of_the_job(unit, request)
    if asked.module in INPAINTING:
        found = _with_job_mask(found, job_mask, request)
        if inpaint is not None:
            asked = msgspec.structs.replace(asked, module="inpaint")
    elif found.mask is not None:
        found = _Pictures(image=found.mask.convert("RGB"), mask=None, fit=found.fit)
        asked = msgspec.structs.replace(asked, module="none")
    if unit.crop_to_mask and inpaint is not None and inpaint.only_masked and job_mask is not None:
        found = _cut(found, job_mask, inpaint, request.size)
    return Source(
        pixels=np.asarray(found.image),
        mask=None if found.mask is None else np.asarray(found.mask),
        preprocessing=asked,
        fit=found.fit,
    )


def _own(unit: ControlUnit) -> _Pictures:
    assert unit.image is not None
    image = flattened(decoded(unit.image, PARAM), WHITE)
    return _Pictures(image=image, mask=_mask(unit, image.size), fit=unit.fit)


def _of_the_job(unit: ControlUnit, request: ImageRequest) -> _Pictures:
    assert request.init is not None
    image = flattened(decoded(request.init.images[0], "init_images"), WHITE)
    return _Pictures(image=image, mask=_mask(unit, image.size), fit=FITS[request.init.resize])


def _mask(unit: ControlUnit, size: tuple[int, int]) -> Image.Image | None:
    """Return the unit's mask at the size of its picture, None where it marks nothing."""
    if unit.mask is None:
        return None
    mask = flattened(decoded(unit.mask, PARAM), WHITE).getchannel(0)
    levels = np.asarray(mask)
    if levels.max() <= BLACKEST or levels.min() >= WHITEST:
        return None
    return mask if mask.size == size else mask.resize(size, Image.Resampling.NEAREST)


def _with_job_mask(found: _Pictures, mask: Image.Image | None, request: ImageRequest) -> _Pictures:
    if found.mask is not None or mask is None or mask.size != found.image.size or request.init is None:
        return found
    return _Pictures(image=found.image, mask=mask, fit=FITS[request.init.resize])


def _cut(found: _Pictures, job_mask: Image.Image, inpaint: Inpaint, size: Size) -> _Pictures:
    """Cut out what the job works on, as its own picture is cut."""
    place = masks.region_of(job_mask, inpaint.padding, size)
    if place is None:
        return found

    def part(image: Image.Image) -> Image.Image:
        whole = resized(image, Size(*job_mask.size), found.fit)
        return resized(masks.cut(whole, place), size, "fill")

    mask = None if found.mask is None else part(found.mask).convert("L")
    return _Pictures(image=part(found.image).convert("RGB"), mask=mask, fit=found.fit)
