"""Is what a request says of its init pictures within bounds? The pictures themselves are read in the running job."""

import math

from server.core.errors import InvalidValue
from server.core.image import ImageRequest, InitImages, Inpaint, SoftInpaint
from server.engines.image.enlarging import PIXEL_FILTERS
from server.engines.image.mask_blur import MOST_BLUR

MOST_PADDING = 16_384
MOST_POWER = 64.0


def check_init(request: ImageRequest) -> None:
    """Raise InvalidValue for what no job from pictures can be; nothing for a job without."""
    init = request.init
    if init is None:
        return
    if request.hires is not None:
        raise InvalidValue.of("hires", "a job from a picture has no second pass")
    if len(init.images) not in (1, request.batch_size):
        count, batch = len(init.images), request.batch_size
        raise InvalidValue.of("init_images", f"{count} pictures for a batch of {batch}: one for all or one for each")
    _within("strength", init.strength, 0.0, 1.0)
    _check_numbers(init)
    if init.upscaler not in PIXEL_FILTERS:
        raise InvalidValue.of("upscaler", f"unknown upscaler {init.upscaler!r}; known are {', '.join(PIXEL_FILTERS)}")
    if init.inpaint is not None:
        _check_inpaint(init.inpaint)


def _check_numbers(init: InitImages) -> None:
    for name in ("noise_multiplier", "mask_weight"):
        if not math.isfinite(getattr(init, name)):
            raise InvalidValue.of(name, f"{name} must be a finite number")
    if init.picture_scale is not None and not math.isfinite(init.picture_scale):
        raise InvalidValue.of("picture_scale", "picture_scale must be a finite number")
    for channel in init.background:
        _within("background", channel, 0, 255)


def _check_inpaint(asked: Inpaint) -> None:
    _within("mask_blur_x", asked.blur_x, 0.0, MOST_BLUR)
    _within("mask_blur_y", asked.blur_y, 0.0, MOST_BLUR)
    _within("padding", asked.padding, 0, MOST_PADDING)
    if asked.soft is not None:
        for name in SoftInpaint.__struct_fields__:
            _within(name, getattr(asked.soft, name), 0.0, MOST_POWER)
        if asked.soft.contrast == 0:
            raise InvalidValue.of("contrast", "contrast must be above 0")


def _within(param: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise InvalidValue.of(param, f"{param} is {value}, it must be between {least:g} and {most:g}")
