"""An img2img request to the core's words: what txt2img has too is planned as such, and pictures are added to the plan.

plan(wire.Img2Img(init_images=["iVBOR..."], denoising_strength=0.5), convert.Context(model="tiny"))  ->  Plan
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from compat.a1111 import convert, wire
from compat.a1111.checks import between
from compat.a1111.colours import colour_of
from compat.a1111.encoded import pictures
from compat.a1111.given import Given, blurs
from compat.a1111.img2img_fields import NOT_OFFERED, SHARED, SOFT_INPAINTING
from compat.a1111.options import OptionValues
from compat.a1111.refusals import Refused
from compat.a1111.upscalers import Upscaler, find
from server.core.errors import InvalidValue, Unsupported
from server.core.image import InitImages, Inpaint, MaskedContent, ResizeMode, SoftInpaint

MODES: dict[int, ResizeMode] = {0: "stretch", 1: "crop", 2: "fill", 3: "latent"}
CONTENTS: dict[int, MaskedContent] = {0: "fill", 1: "original", 2: "noise", 3: "nothing"}

UPSCALER = "upscaler_for_img2img"
NONE = Upscaler(name="None")

MOST_BLUR = 256
MOST_PADDING = 16_384
MOST_SOFT = 64.0
SOFT_DEFAULTS: tuple[Any, ...] = (False, 1, 0.5, 4, 0, 0.5, 2)


def plan(request: wire.Img2Img, context: convert.Context) -> convert.Plan:
    """Decide a request. Decodes base64: runs in a thread.

    Raises:
        InvalidValue, Unsupported, Refused: as `convert.plan`; a picture that is none, or more of them than fit.
    """
    if request.init_images is None:
        raise Refused.http("Init image not found", status=404)
    files, mask = pictures(_counted(request, request.init_images), request.mask)
    scripts, soft = _scripts(request.alwayson_scripts)
    same = {name: getattr(request, name) for name in SHARED}
    if len(files) > 1:
        same["batch_size"] = len(files)
    base = convert.plan(wire.Txt2Img(**same | {"alwayson_scripts": scripts}), context)
    options, ignored = base.options, _not_offered(request, base.options)
    if _upscaler(options, context.upscalers) is None:
        ignored = (*ignored, f"options.{UPSCALER}")
    inpaint = None if mask is None else _inpaint(request, options, mask, soft)
    init = _init(request, base, context, files, inpaint)
    return msgspec.structs.replace(
        base,
        work=msgspec.structs.replace(base.work, init=init),
        given=Given(
            request=request,
            init=init,
            soft=soft if inpaint is not None else (),
            digest=digest_of(files[-1]) if options.flag("save_init_img") and context.settings.output_dir else None,
        ),
        ignored=(*base.ignored, *ignored),
    )


def _counted(request: wire.Img2Img, texts: Sequence[Any]) -> Sequence[Any]:
    if not texts:
        raise Refused.http("Init image not found")
    most = max(request.batch_size or 1, 1)
    if len(texts) > most:
        message = f"bad number of images passed: {len(texts)}; expecting {most} or less"
        raise Refused.raised("RuntimeError", message)
    return texts


def _init(
    request: wire.Img2Img,
    base: convert.Plan,
    context: convert.Context,
    files: tuple[bytes, ...],
    inpaint: Inpaint | None,
) -> InitImages:
    options, factor = base.options, request.initial_noise_multiplier
    upscaler = _upscaler(options, context.upscalers) or NONE
    return InitImages(
        images=files,
        strength=min(request.denoising_strength, 1.0),
        exact_steps=options.flag("img2img_fix_steps"),
        resize=MODES.get(request.resize_mode or 0, "fill"),
        upscaler=upscaler.kernel,
        upscaler_file=upscaler.reference(options),
        background=colour_of(options.text("img2img_background_color")),
        # A1111 reads this option before it sets a request's overrides, so they do not act.
        noise_multiplier=factor if factor is not None else context.options.number("initial_noise_multiplier"),
        match_colours=options.flag("img2img_color_correction"),
        mask_weight=options.number("inpainting_mask_weight"),
        picture_scale=request.image_cfg_scale,
        inpaint=inpaint,
    )


def _inpaint(request: wire.Img2Img, options: OptionValues, mask: bytes, soft: tuple[float, ...]) -> Inpaint:
    across, down = blurs(request)
    between("mask_blur", max(across, down), -MOST_PADDING, MOST_BLUR)
    between("inpaint_full_res_padding", request.inpaint_full_res_padding, 0, MOST_PADDING)
    return Inpaint(
        mask=mask,
        blur_x=max(across, 0),
        blur_y=max(down, 0),
        content=CONTENTS.get(request.inpainting_fill or 0, "fill"),
        only_masked=bool(request.inpaint_full_res),
        padding=request.inpaint_full_res_padding or 0,
        invert=bool(request.inpainting_mask_invert),
        rounded=bool(request.mask_round) and not soft,
        overlay=options.flag("overlay_inpaint"),
        soft=_soft(soft) if soft else None,
        return_mask=options.flag("return_mask") or (request.save_images and options.flag("save_mask")),
        return_composite=options.flag("return_mask_composite")
        or (request.save_images and options.flag("save_mask_composite")),
    )


def digest_of(file: bytes) -> str:
    """Return the name of a saved init picture. A1111 takes that of the pixels, which are not looked at here."""
    return hashlib.md5(file, usedforsecurity=False).hexdigest()


def _upscaler(options: OptionValues, known: Sequence[Upscaler]) -> Upscaler | None:
    """Return what enlarges init pictures, None for a name that is none: A1111 passes it over."""
    name = options.get(UPSCALER)
    return NONE if name is None or name == "" else find(str(name), known)


def _not_offered(request: wire.Img2Img, options: OptionValues) -> tuple[str, ...]:
    changed = [name for name in NOT_OFFERED if options.changed(name)]
    for name in changed:
        if name in (request.override_settings or {}):
            raise Unsupported.of(f"override_settings.{name}", f"the option {name} is not offered yet")
    return tuple(f"options.{name}" for name in changed)


def _scripts(asked: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[float, ...]]:
    """Return the always-on scripts other than soft inpainting, and its numbers, () when it is off."""
    others = {name: value for name, value in asked.items() if name.lower() != SOFT_INPAINTING}
    found = [value for name, value in asked.items() if name.lower() == SOFT_INPAINTING]
    args = found[-1].get("args", []) if found and isinstance(found[-1], dict) else []
    if not isinstance(args, list):
        raise InvalidValue.of("alwayson_scripts", "the args of soft inpainting are no list")
    enabled, *numbers = [*args[: len(SOFT_DEFAULTS)], *SOFT_DEFAULTS[len(args) :]]
    if not enabled:
        return others, ()
    for number in numbers:
        plain = isinstance(number, int | float) and not isinstance(number, bool) and math.isfinite(number)
        if not plain or not 0 <= number <= MOST_SOFT:
            raise InvalidValue.of("alwayson_scripts", f"the args of soft inpainting are 0 ... {MOST_SOFT:g}")
    if numbers[2] == 0:
        raise InvalidValue.of("alwayson_scripts", "soft inpainting needs a transition contrast boost above 0")
    return others, tuple(numbers)


def _soft(numbers: tuple[float, ...]) -> SoftInpaint:
    bias, preservation, contrast, influence, threshold, sharpness = numbers
    return SoftInpaint(
        schedule_bias=bias,
        preservation=preservation,
        contrast=contrast,
        mask_influence=influence,
        difference_threshold=threshold,
        difference_contrast=sharpness,
    )
