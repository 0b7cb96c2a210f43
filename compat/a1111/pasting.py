"""The `infotext` field of a request: what the text says fills the fields that the client did not send. Pure.

For img2img only what A1111's scripts for seed, sampler and refiner read counts; its other fields have no names there.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from compat.a1111 import infotext, lenient, wire
from compat.a1111.options import CHECKPOINT, OptionValues
from compat.a1111.styles import Style

Asked = wire.Txt2Img | wire.Img2Img

SCRIPT_FIELDS: Final = {
    "steps": "Steps",
    "sampler_name": "Sampler",
    "scheduler": "Schedule type",
    "seed": "Seed",
    "subseed": "Variation seed",
    "subseed_strength": "Variation seed strength",
    "seed_resize_from_h": "Seed resize from-1",  # the text is width x height; A1111 swaps them
    "seed_resize_from_w": "Seed resize from-2",
    "refiner_checkpoint": "Refiner",
    "refiner_switch_at": "Refiner switch at",
}

PAGE_FIELDS: Final = {
    "prompt": "Prompt",
    "negative_prompt": "Negative prompt",
    "cfg_scale": "CFG scale",
    "distilled_cfg_scale": "Distilled CFG Scale",
    "width": "Size-1",
    "height": "Size-2",
    "batch_size": "Batch size",
    "styles": "Styles array",
    "denoising_strength": "Denoising strength",
    "hr_scale": "Hires upscale",
    "hr_upscaler": "Hires upscaler",
    "hr_second_pass_steps": "Hires steps",
    "hr_resize_x": "Hires resize-1",
    "hr_resize_y": "Hires resize-2",
    "hr_checkpoint_name": "Hires checkpoint",
    "hr_sampler_name": "Hires sampler",
    "hr_scheduler": "Hires schedule type",
    "hr_prompt": "Hires prompt",
    "hr_negative_prompt": "Hires negative prompt",
}

HIRES_MARKS: Final = ("Hires upscale", "Hires upscaler", "Hires resize-1")

OPTIONS: Final = {
    "Clip skip": "CLIP_stop_at_last_layers",
    "ENSD": "eta_noise_seed_delta",
    "VAE": "sd_vae",
    "RNG": "randn_source",
    "Emphasis": "emphasis",
    "Eta": "eta_ancestral",
    "Eta DDIM": "eta_ddim",
    "Sigma churn": "s_churn",
    "Sigma tmin": "s_tmin",
    "Sigma tmax": "s_tmax",
    "Sigma noise": "s_noise",
    "Schedule min sigma": "sigma_min",
    "Schedule max sigma": "sigma_max",
    "Schedule rho": "rho",
    "Beta schedule alpha": "beta_dist_alpha",
    "Beta schedule beta": "beta_dist_beta",
    "Discard penultimate sigma": "always_discard_next_to_last_sigma",
    "SGM noise multiplier": "sgm_noise_multiplier",
    "Noise Schedule": "sd_noise_schedule",
    "Downcast alphas_cumprod": "use_downcasted_alpha_bar",
    "NGMS": "s_min_uncond",
    "NGMS all steps": "s_min_uncond_all",
    "Skip Early CFG": "skip_early_cond",
    "Pad conds": "pad_cond_uncond",
    "Pad conds v0": "pad_cond_uncond_v0",
    "Token merging ratio": "token_merging_ratio",
    "Token merging ratio hr": "token_merging_ratio_hr",
    "Tiling": "tiling",
    "Noise multiplier": "initial_noise_multiplier",
    "Extra noise": "img2img_extra_noise",
    "Conditional mask weight": "inpainting_mask_weight",
    "Old prompt editing timelines": "use_old_scheduling",
    "VAE Encoder": "sd_vae_encode_method",
    "VAE Decoder": "sd_vae_decode_method",
}
"""Keys of infotexts that stand for options."""

MODEL_HASH: Final = "Model hash"


def fill(request: Asked, sent: Iterable[str], stored: OptionValues, styles: Iterable[Style] = ()) -> Asked:
    """Return the request with what its infotext says of fields that are not among `sent`.

    Raises:
        Unreadable: a value of the text is none that its field can have.
    """
    if not request.infotext:
        return request
    skipped = stored.get("infotext_skip_pasting")
    told = infotext.read(request.infotext, styles)
    if isinstance(skipped, list):
        told = {key: value for key, value in told.items() if key not in skipped}
    given = frozenset(sent)
    is_page = isinstance(request, wire.Txt2Img)
    fields = SCRIPT_FIELDS | (PAGE_FIELDS if is_page else {})
    found = {name: told[key] for name, key in fields.items() if key in told and name not in given}
    if is_page and "enable_hr" not in given and "Denoising strength" in told:
        found["enable_hr"] = any(mark in told for mark in HIRES_MARKS)
    changes = lenient.coerce(found, type(request))
    overrides = _overrides(told, request.override_settings or {}, stored)
    if overrides:
        changes["override_settings"] = (request.override_settings or {}) | overrides
    return msgspec.structs.replace(request, **changes)


def _overrides(told: Mapping[str, Any], given: Mapping[str, Any], stored: OptionValues) -> dict[str, Any]:
    """Return the options that the text sets to something else than they are, and the client does not set itself."""
    keys = dict(OPTIONS)
    if not stored.flag("disable_weights_auto_swap"):
        keys[MODEL_HASH] = CHECKPOINT
    found = {}
    for key, option in keys.items():
        if key not in told or option in given:
            continue
        now = stored.get(option)
        value = _like(told[key], now)
        if value != now:
            found[option] = value
    return found


def _like(value: Any, now: Any) -> Any:
    """Return a value of the text in the type that the option has; as it is where that cannot be."""
    if not isinstance(value, str):
        return value
    if isinstance(now, bool):
        return value == "True"
    if isinstance(now, int | float):
        try:
            number = float(value)
        except ValueError:
            return value
        return int(number) if number.is_integer() else number
    return value
