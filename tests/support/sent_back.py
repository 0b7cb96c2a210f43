"""What a client sends to get a picture again of which it knows no more than png-info tells.

The table of names is that of A1111's infotexts: request fields by their infotext key, and options, which go into
`override_settings`.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any


def _truth(text: Any) -> bool:
    return str(text) == "True"


def _text(value: Any) -> str:
    return str(value)


def _whole(value: Any) -> int:
    return int(value)


Read = Callable[[Any], Any]

BOTH: dict[str, tuple[str, Read]] = {
    "Prompt": ("prompt", _text),
    "Negative prompt": ("negative_prompt", _text),
    "Styles array": ("styles", list),
    "Steps": ("steps", _whole),
    "Sampler": ("sampler_name", _text),
    "Schedule type": ("scheduler", _text),
    "CFG scale": ("cfg_scale", float),
    "Seed": ("seed", _whole),
    "Size-1": ("width", _whole),
    "Size-2": ("height", _whole),
    "Variation seed": ("subseed", _whole),
    "Variation seed strength": ("subseed_strength", float),
    "Seed resize from-1": ("seed_resize_from_w", _whole),
    "Seed resize from-2": ("seed_resize_from_h", _whole),
    "Denoising strength": ("denoising_strength", float),
    "Refiner": ("refiner_checkpoint", _text),
    "Refiner switch at": ("refiner_switch_at", float),
    "Tiling": ("tiling", _truth),
}

TXT2IMG = BOTH | {
    "Hires upscale": ("hr_scale", float),
    "Hires resize-1": ("hr_resize_x", _whole),
    "Hires resize-2": ("hr_resize_y", _whole),
    "Hires steps": ("hr_second_pass_steps", _whole),
    "Hires upscaler": ("hr_upscaler", _text),
    "Hires sampler": ("hr_sampler_name", _text),
    "Hires schedule type": ("hr_scheduler", _text),
    "Hires prompt": ("hr_prompt", _text),
    "Hires negative prompt": ("hr_negative_prompt", _text),
    "Hires checkpoint": ("hr_checkpoint_name", _text),
}

IMG2IMG = BOTH | {
    "Image CFG scale": ("image_cfg_scale", float),
    "Mask mode": ("inpainting_mask_invert", lambda mode: int(mode == "Inpaint not masked")),
    "Mask blur": ("mask_blur", _whole),
    "Inpaint area": ("inpaint_full_res", lambda area: area == "Only masked"),
    "Masked area padding": ("inpaint_full_res_padding", _whole),
    "Masked content": (
        "inpainting_fill",
        lambda content: ["fill", "original", "latent noise", "latent nothing"].index(content),
    ),
    "Noise multiplier": ("initial_noise_multiplier", float),
}

OPTIONS: dict[str, tuple[str, Read]] = {
    "VAE": ("sd_vae", _text),
    "Clip skip": ("CLIP_stop_at_last_layers", _whole),
    "ENSD": ("eta_noise_seed_delta", _whole),
    "RNG": ("randn_source", _text),
    "Emphasis": ("emphasis", _text),
    "Eta": ("eta_ancestral", float),
    "Eta DDIM": ("eta_ddim", float),
    "Sigma churn": ("s_churn", float),
    "Sigma tmin": ("s_tmin", float),
    "Sigma tmax": ("s_tmax", float),
    "Sigma noise": ("s_noise", float),
    "Schedule min sigma": ("sigma_min", float),
    "Schedule max sigma": ("sigma_max", float),
    "Schedule rho": ("rho", float),
    "Discard penultimate sigma": ("always_discard_next_to_last_sigma", _truth),
    "NGMS": ("s_min_uncond", float),
    "NGMS all steps": ("s_min_uncond_all", _truth),
    "Pad conds": ("pad_cond_uncond", _truth),
    "Extra noise": ("img2img_extra_noise", float),
    "Conditional mask weight": ("inpainting_mask_weight", float),
    "Refiner switch by sampling steps": ("refiner_switch_by_sample_steps", _truth),
    "Hires refiner": ("hires_fix_refiner_pass", _text),
}

SOFT = (
    "Soft inpainting schedule bias",
    "Soft inpainting preservation strength",
    "Soft inpainting transition contrast boost",
    "Soft inpainting mask influence",
    "Soft inpainting difference threshold",
    "Soft inpainting difference contrast",
)


def txt2img_again(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return the txt2img request for the fields that png-info gives."""
    return _named(told, TXT2IMG) | {
        "enable_hr": "Hires upscale" in told or int(told["Hires resize-1"]) > 0 or int(told["Hires resize-2"]) > 0,
        "override_settings": _named(told, OPTIONS),
    }


def img2img_again(told: Mapping[str, Any], images: list[str], mask: str | None) -> dict[str, Any]:
    """Return the img2img request for the fields that png-info gives, and the pictures that it cannot give."""
    request = _named(told, IMG2IMG) | {"init_images": images, "override_settings": _named(told, OPTIONS)}
    if mask is not None:
        request |= {"mask": mask, "mask_blur": request.get("mask_blur", 0)}
    if "Soft inpainting enabled" in told:
        request["alwayson_scripts"] = {"soft inpainting": {"args": [True, *(json.loads(told[key]) for key in SOFT)]}}
    return request


def _named(told: Mapping[str, Any], names: Mapping[str, tuple[str, Read]]) -> dict[str, Any]:
    return {name: read(told[key]) for key, (name, read) in names.items() if key in told}
