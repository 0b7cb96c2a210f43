"""`cmd-flags`: the names and usual values of A1111's command line, with what this server's settings say of them.

There is no such command line behind this server, but for what `compat.a1111.flags` takes; clients read a few of them
for what a server can do, and where its folders are.
"""

from typing import Any, Final

from compat.a1111.settings import A1111Settings

OFF: Final = (
    *("f", "update_all_extensions", "skip_python_version_check", "skip_torch_cuda_test", "reinstall_xformers"),
    *("reinstall_torch", "update_check", "test_server", "log_startup", "skip_prepare_environment", "skip_install"),
    *("dump_sysinfo", "do_not_download_clip", "no_half", "no_half_vae", "no_progressbar_hiding", "allow_code"),
    *("medvram", "medvram_sdxl", "lowvram", "lowram", "always_batch_cond_uncond", "unload_gfpgan", "upcast_sampling"),
    *("share", "enable_insecure_extension_access", "xformers", "force_enable_xformers", "xformers_flash_attention"),
    *("deepdanbooru", "opt_split_attention", "opt_sub_quad_attention", "opt_split_attention_invokeai"),
    *("opt_split_attention_v1", "opt_sdp_attention", "opt_sdp_no_mem_attention", "disable_opt_split_attention"),
    *("disable_nan_check", "use_ipex", "disable_model_loading_ram_optimization", "show_negative_prompt"),
    *("hide_ui_dir_config", "freeze_settings", "gradio_debug", "opt_channelslast", "autolaunch", "use_textbox_seed"),
    *("disable_console_progressbars", "enable_console_prompts", "disable_safe_unpickle", "api_log", "ui_debug_mode"),
    *("administrator", "no_gradio_queue", "skip_version_check", "no_hashing", "add_stop_route"),
    *("disable_all_extensions", "disable_extra_extensions", "skip_load_model_at_start", "unix_filenames_sanitization"),
    *("no_prompt_history",),
)
"""Switches that are off."""

ABSENT: Final = (
    *("loglevel", "ckpt", "ckpt_dir", "vae_dir", "gfpgan_model", "ngrok", "clip_models_path", "sub_quad_kv_chunk_size"),
    *("sub_quad_chunk_threshold", "freeze_settings_in_sections", "freeze_specific_settings", "gradio_auth"),
    *("gradio_auth_path", "gradio_img2img_tool", "gradio_inpaint_tool", "theme", "vae_path", "api_auth", "device_id"),
    *("cors_allow_origins", "cors_allow_origins_regex", "tls_keyfile", "tls_certfile", "disable_tls_verify"),
    *("server_name", "subpath"),
)
"""Values that nobody gave."""

FOLDERS: Final = {
    "hypernetwork_dir": "hypernetworks",
    "codeformer_models_path": "Codeformer",
    "gfpgan_models_path": "GFPGAN",
    "esrgan_models_path": "ESRGAN",
    "bsrgan_models_path": "BSRGAN",
    "realesrgan_models_path": "RealESRGAN",
    "dat_models_path": "DAT",
    "ldsr_models_path": "LDSR",
    "lora_dir": "Lora",
    "lyco_dir_backcompat": "LyCORIS",
    "scunet_models_path": "ScuNET",
    "swinir_models_path": "SwinIR",
}
"""Folders below the one for models."""


def flags(settings: A1111Settings) -> dict[str, Any]:
    """Return the answer."""
    models = settings.models_dir or "models"
    return {
        **dict.fromkeys(OFF, False),
        **dict.fromkeys(ABSENT),
        **{name: f"{models}/{folder}" for name, folder in FOLDERS.items()},
        "data_dir": ".",
        "models_dir": settings.models_dir,
        "embeddings_dir": f"{models}/embeddings" if settings.models_dir else "embeddings",
        "textual_inversion_templates_dir": "textual_inversion_templates",
        "localizations_dir": "localizations",
        "gfpgan_dir": "GFPGAN",
        "config": "configs/v1-inference.yaml",
        "ui_config_file": "ui-config.json",
        "ui_settings_file": "config.json",
        "styles_file": list(settings.styles_files),
        "gradio_allowed_path": [],
        "gradio_queue": True,
        "ngrok_region": "",
        "ngrok_options": {},
        "max_batch_count": settings.max_batches,
        "precision": "autocast",
        "sub_quad_q_chunk_size": 1024,
        "use_cpu": [],
        "api": True,
        "nowebui": True,
        "no_download_sd_model": True,
        "listen": settings.listen,
        "port": str(settings.port),
        "api_server_stop": settings.server_stop,
        "timeout_keep_alive": 30,
        "filenames_max_length": 128,
    }
