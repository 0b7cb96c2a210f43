"""What becomes of every field of a txt2img request, and of the options that would change a picture.

`honoured`: acts. `echoed`: A1111 itself does nothing with it, or only its files would differ. `refused`: a value other
than the harmless ones would give another picture than asked for, so the request is refused in clear words.
`distilled_cfg_scale` is Forge's, for models that were trained to follow a guidance number. A test holds this table
against `wire.Txt2Img`.
"""

from typing import Final, Literal

Fate = Literal["honoured", "echoed", "refused"]

TXT2IMG: Final[dict[str, Fate]] = {
    "prompt": "honoured",
    "negative_prompt": "honoured",
    "styles": "honoured",
    "seed": "honoured",
    "subseed": "honoured",
    "subseed_strength": "honoured",
    "seed_resize_from_h": "honoured",
    "seed_resize_from_w": "honoured",
    "sampler_name": "honoured",
    "scheduler": "honoured",
    "batch_size": "honoured",
    "n_iter": "honoured",
    "steps": "honoured",
    "cfg_scale": "honoured",
    "width": "honoured",
    "height": "honoured",
    "restore_faces": "refused",
    "tiling": "honoured",
    "do_not_save_samples": "echoed",
    "do_not_save_grid": "echoed",
    "eta": "honoured",
    "denoising_strength": "honoured",
    "s_min_uncond": "honoured",
    "s_churn": "honoured",
    "s_tmax": "honoured",
    "s_tmin": "honoured",
    "s_noise": "honoured",
    "override_settings": "honoured",
    "override_settings_restore_afterwards": "honoured",
    "refiner_checkpoint": "honoured",
    "refiner_switch_at": "honoured",
    "disable_extra_networks": "honoured",
    "firstpass_image": "echoed",
    "comments": "echoed",
    "enable_hr": "honoured",
    "firstphase_width": "honoured",
    "firstphase_height": "honoured",
    "hr_scale": "honoured",
    "hr_upscaler": "honoured",
    "hr_second_pass_steps": "honoured",
    "hr_resize_x": "honoured",
    "hr_resize_y": "honoured",
    "hr_checkpoint_name": "honoured",
    "hr_sampler_name": "honoured",
    "hr_scheduler": "honoured",
    "hr_prompt": "honoured",
    "hr_negative_prompt": "honoured",
    "force_task_id": "honoured",
    "sampler_index": "honoured",
    "script_name": "honoured",
    "script_args": "honoured",
    "send_images": "honoured",
    "save_images": "honoured",
    "alwayson_scripts": "honoured",
    "infotext": "honoured",
    "distilled_cfg_scale": "honoured",
}

FORGE: Final = ("distilled_cfg_scale",)
"""Fields that Forge added and A1111 does not have; they are repeated in the answer only when they were sent."""

NOT_OFFERED: Final = (
    "use_old_emphasis_implementation",
    "use_old_karras_scheduler_sigmas",
    "use_downcasted_alpha_bar",
    "sd_noise_schedule",
    "skip_early_cond",
    "pad_cond_uncond_v0",
    "token_merging_ratio",
    "no_dpmpp_sde_batch_determinism",
    "sd_vae_decode_method",
    "fp8_storage",
    "uni_pc_variant",
    "uni_pc_skip_type",
    "uni_pc_order",
    "uni_pc_lower_order_final",
)
"""Options that change every picture and do not act yet: refused per request, ignored and named when they are stored."""

NOT_OFFERED_HIRES: Final = ("use_old_hires_fix_width_height", "token_merging_ratio_hr", "sd_vae_encode_method")

SELECTABLE_SCRIPTS: Final = frozenset(
    {
        "x/y/z plot",
        "prompt matrix",
        "prompts from file or textbox",
        "custom code",
        "sd upscale",
        "loopback",
        "outpainting mk2",
        "poor man's outpainting",
        "img2img alternative test",
    }
)
"""Scripts of A1111 that `script_name` chooses, here or there: none may stand among always-on scripts."""

IDLE_SCRIPTS: Final = frozenset({"refiner", "sampler", "seed", "extra options", "comments"})
"""Always-on scripts whose arguments do nothing over the API in A1111 either: nothing to name."""

KNOWN_SCRIPTS: Final = IDLE_SCRIPTS | {"controlnet"}
"""Always-on scripts that are not named as left out: those, and the ones that act on every route."""
