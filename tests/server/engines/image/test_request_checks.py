import math
from typing import Any

import msgspec
import pytest

from server.core.errors import InvalidValue
from server.core.image import Denoise, HiresPass, ImageRequest, InitImages, Inpaint, Seeds, Size, SoftInpaint
from server.core.prompt import plain
from server.engines.image.request_checks import check_init

pytestmark = pytest.mark.torch

INIT = InitImages(images=(b"x",), strength=0.5)
MASK = Inpaint(mask=b"x")
REQUEST = ImageRequest(
    model="x", prompt=plain(""), negative=plain(""), size=Size(64, 64), seeds=Seeds(first=1), batch_size=2, init=INIT
)
HIRES = HiresPass(
    size=Size(64, 64),
    scale_to=Size(64, 64),
    upscaler="latent",
    strength=0.5,
    denoise=Denoise(),
    prompt=plain(""),
    negative=plain(""),
)


def asked(**fields: Any) -> ImageRequest:
    return msgspec.structs.replace(REQUEST, init=msgspec.structs.replace(INIT, **fields))


@pytest.mark.parametrize(
    "request_",
    [
        REQUEST,
        msgspec.structs.replace(REQUEST, init=None),
        asked(images=(b"x", b"y"), strength=0.0, picture_scale=1.5),
        asked(strength=1.0, inpaint=Inpaint(mask=b"x", blur_x=0, padding=32, soft=SoftInpaint())),
    ],
)
def test_what_is_fine(request_: ImageRequest) -> None:
    check_init(request_)


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (msgspec.structs.replace(REQUEST, hires=HIRES), "hires"),
        (asked(images=()), "init_images"),
        (asked(images=(b"x",) * 3), "init_images"),
        (asked(strength=1.5), "strength"),
        (asked(strength=math.nan), "strength"),
        (asked(noise_multiplier=math.inf), "noise_multiplier"),
        (asked(mask_weight=math.nan), "mask_weight"),
        (asked(picture_scale=math.nan), "picture_scale"),
        (asked(background=(0, 0, 256)), "background"),
        (asked(upscaler="latent"), "upscaler"),
        (asked(inpaint=msgspec.structs.replace(MASK, blur_x=-1)), "mask_blur_x"),
        (asked(inpaint=msgspec.structs.replace(MASK, blur_y=1e9)), "mask_blur_y"),
        (asked(inpaint=msgspec.structs.replace(MASK, padding=-1)), "padding"),
        (asked(inpaint=msgspec.structs.replace(MASK, soft=SoftInpaint(contrast=0))), "contrast"),
        (asked(inpaint=msgspec.structs.replace(MASK, soft=SoftInpaint(schedule_bias=100))), "schedule_bias"),
    ],
)
def test_what_no_job_can_be(request_: ImageRequest, param: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        check_init(request_)
    assert caught.value.fact("param") == param
