"""Is a request within bounds, and does it ask only for what is offered? Otherwise a core error that names the field."""

import msgspec

from compat.a1111 import fields, wire
from compat.a1111.denoise import distilled_of
from compat.a1111.options import OptionValues
from compat.a1111.refusals import Refused
from compat.a1111.settings import A1111Settings
from server.core.errors import InvalidValue, Unsupported

SMALLEST_SIDE = 8
MOST_CFG = 1000
NEVER_NULL = ("prompt", "negative_prompt", "cfg_scale", "steps", "width", "height", "batch_size", "n_iter")


def check_bounds(request: wire.Txt2Img, settings: A1111Settings) -> None:
    """Raise InvalidValue for nulls and numbers that no picture can have."""
    for name in NEVER_NULL:
        if getattr(request, name) is None:
            raise InvalidValue.of(name, "none is not an allowed value")
    between("steps", request.steps, 1, settings.max_steps)
    between("batch_size", request.batch_size, 1, settings.max_batch_size)
    between("n_iter", request.n_iter, 1, settings.max_batches)
    between("cfg_scale", request.cfg_scale, -MOST_CFG, MOST_CFG)
    between("distilled_cfg_scale", distilled_of(request), -MOST_CFG, MOST_CFG)
    between("hr_second_pass_steps", request.hr_second_pass_steps, 0, settings.max_steps)
    for name in ("hr_resize_x", "hr_resize_y", "firstphase_width", "firstphase_height"):
        between(name, getattr(request, name), 0, settings.max_pixels)
    strength = request.denoising_strength
    if strength is not None and strength < 0:
        raise InvalidValue.of("denoising_strength", "ensure this value is greater than or equal to 0")


def check_size(param: str, width: int, height: int, settings: A1111Settings) -> None:
    """Raise InvalidValue for a size below a latent cell or above the pixel limit."""
    if width < SMALLEST_SIDE or height < SMALLEST_SIDE:
        raise InvalidValue.of(param, f"{width}x{height} is too small: each side is {SMALLEST_SIDE} pixels at least")
    if width * height > settings.max_pixels:
        raise InvalidValue.of(param, f"{width}x{height} is more than {settings.max_pixels} pixels")


def check_offered(request: wire.Txt2Img) -> None:
    """Raise Unsupported or Refused for what would change the picture and is not there yet."""
    if request.script_name:
        raise Refused.http(f"Script '{request.script_name}' not found")
    for name in request.alwayson_scripts:
        if name.lower() in fields.SELECTABLE_SCRIPTS:
            raise Refused.http("Cannot have a selectable script in the always on scripts params")


class OptionsUse(msgspec.Struct, frozen=True, kw_only=True):
    """The options of one request, and the names of those that were left out."""

    values: OptionValues
    ignored: tuple[str, ...]


def use_options(request: wire.Txt2Img, stored: OptionValues) -> OptionsUse:
    """Return the options as this request overrides them.

    Raises:
        Unsupported: the request itself sets an option that would change the picture and does not act yet.
    """
    overrides = request.override_settings or {}
    values = stored.with_overrides(overrides)
    ignored = [
        f"override_settings.{name}" for name, value in overrides.items() if not known(name) and value is not None
    ]
    names = (*fields.NOT_OFFERED, *(fields.NOT_OFFERED_HIRES if request.enable_hr else ()))
    for name in (name for name in names if values.changed(name)):
        if name in overrides:
            raise Unsupported.of(f"override_settings.{name}", f"the option {name} is not offered yet")
        ignored.append(f"options.{name}")
    return OptionsUse(values=values, ignored=tuple(ignored))


def check_faces(request: wire.Txt2Img, options: OptionValues) -> None:
    """Raise Unsupported when faces are to be restored."""
    wanted = request.restore_faces
    if wanted if wanted is not None else options.flag("face_restoration"):
        raise Unsupported.of("restore_faces", "face restoration is not offered yet")


def ignored_scripts(request: wire.Txt2Img) -> tuple[str, ...]:
    """Return the always-on scripts of extensions that are not here."""
    names = [name for name in request.alwayson_scripts if name.lower() not in fields.KNOWN_SCRIPTS]
    return tuple(f"alwayson_scripts.{name}" for name in names)


def known(option: str) -> bool:
    """Tell whether A1111 has an option of this name."""
    return OptionValues().get(option) is not None or option in ("sd_model_checkpoint", "upscaler_for_img2img")


def between(param: str, value: float | None, low: int, high: int) -> None:
    """Raise InvalidValue for a number out of bounds, in the words of A1111's validation."""
    if value is None:
        return
    if value < low:
        raise InvalidValue.of(param, f"ensure this value is greater than or equal to {low}")
    if value > high:
        raise InvalidValue.of(param, f"ensure this value is less than or equal to {high}")
