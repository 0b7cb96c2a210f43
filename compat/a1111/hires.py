"""The second pass of `enable_hr`: its size, its sampler, its prompts."""

from collections.abc import Sequence

import msgspec

from compat.a1111 import wire
from compat.a1111.checks import check_size
from compat.a1111.names import LATENT_UPSCALERS, PIXEL_UPSCALERS, Sampling, find_sampler, find_schedule
from compat.a1111.options import OptionValues
from compat.a1111.refusals import Refused
from compat.a1111.settings import A1111Settings
from compat.a1111.upscalers import Upscaler, named
from server.core.errors import InvalidValue
from server.core.image import Size, UpscalerRef

DEFAULT_STRENGTH = 0.7
"""A1111's web page sends this; its API fails without a value."""

SAME = ("", "Use same sampler")
SAME_SCHEDULE = "Use same scheduler"


class Target(msgspec.Struct, frozen=True):
    """Where the second pass leads: the picture is scaled to one size and cut to the other."""

    size: Size
    scale_to: Size


class Between(msgspec.Struct, frozen=True):
    """The core's id of an upscaler, and its file where it has one."""

    id: str
    file: UpscalerRef | None = None


def target_of(request: wire.Txt2Img, first: Size, settings: A1111Settings) -> Target:
    """Return the size of the second pass; raise InvalidValue when it is out of bounds."""
    x, y = request.hr_resize_x or 0, request.hr_resize_y or 0
    if not x and not y:
        scale = request.hr_scale if request.hr_scale is not None else 2.0
        if not 0 < scale <= settings.max_pixels:
            raise InvalidValue.of("hr_scale", f"{scale} is no factor to enlarge by")
        size = scale_to = Size(int(first.width * scale), int(first.height * scale))
    elif not y:
        size = scale_to = Size(x, x * first.height // first.width)
    elif not x:
        size = scale_to = Size(y * first.width // first.height, y)
    else:
        size = Size(x, y)
        wide = first.width / first.height < x / y
        scale_to = Size(x, x * first.height // first.width) if wide else Size(y * first.width // first.height, y)
    check_size("hr_scale", size.width, size.height, settings)
    check_size("hr_scale", scale_to.width, scale_to.height, settings)
    return Target(size, scale_to)


def sampling_of(request: wire.Txt2Img, base: Sampling) -> Sampling:
    """Return sampler and schedule of the second pass.

    Raises:
        Refused: an unknown sampler; here A1111 has no fallback.
    """
    name = request.hr_sampler_name or ""
    sampler = base.sampler if name in SAME else find_sampler(name)
    if sampler is None:
        raise Refused.raised("AssertionError", f"bad sampler name: {name}")
    word = request.hr_scheduler
    asked = base.asked if word is None or word == SAME_SCHEDULE else find_schedule(word)
    return Sampling(sampler, asked)


def upscaler_of(request: wire.Txt2Img, offered: Sequence[Upscaler], options: OptionValues) -> Between:
    """Return what enlarges between the passes.

    Raises:
        Refused: it is not there.
    """
    name = request.hr_upscaler
    if name is None or name in LATENT_UPSCALERS:
        return Between(LATENT_UPSCALERS[name] if name is not None else "latent")
    if name in PIXEL_UPSCALERS:
        return Between(PIXEL_UPSCALERS[name])
    return Between("none", named(name, offered, "Exception").reference(options))


def strength_of(request: wire.Txt2Img) -> float:
    """Return the share of noise that the second pass begins with; more than all counts as all."""
    strength = request.denoising_strength
    return min(DEFAULT_STRENGTH if strength is None else strength, 1.0)
