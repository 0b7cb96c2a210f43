"""What becomes of every field of an img2img request; see `compat.a1111.fields` for the words.

A test holds this table against `wire.Img2Img`.
"""

from typing import Final

from compat.a1111.fields import TXT2IMG, Fate

OWN: Final[dict[str, Fate]] = {
    "init_images": "honoured",
    "resize_mode": "honoured",
    "image_cfg_scale": "honoured",
    "mask": "honoured",
    "mask_blur_x": "honoured",
    "mask_blur_y": "honoured",
    "mask_blur": "honoured",
    "mask_round": "honoured",
    "inpainting_fill": "honoured",
    "inpaint_full_res": "honoured",
    "inpaint_full_res_padding": "honoured",
    "inpainting_mask_invert": "honoured",
    "initial_noise_multiplier": "honoured",
    "latent_mask": "echoed",
    "include_init_images": "honoured",
}

SHARED: Final = tuple(name for name in TXT2IMG if not name.startswith(("hr_", "firstphase_")) and name != "enable_hr")
"""Fields that mean the same in both requests."""

IMG2IMG: Final[dict[str, Fate]] = {name: TXT2IMG[name] for name in SHARED} | OWN

NOT_OFFERED: Final = ("token_merging_ratio_img2img", "sd_vae_encode_method")
"""Options that would change a picture made from a picture, and do not act yet."""

SOFT_INPAINTING: Final = "soft inpainting"
"""A1111's always-on script that acts here."""
