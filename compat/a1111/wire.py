"""A1111's JSON as structs, in the field order of its API, which the echoed `parameters` keep.

Types are those after the lenient reading of `compat.a1111.lenient`. Fields that A1111 declares without a null are
typed so; null for them is a validation error. For what each field of txt2img comes to see `compat.a1111.fields`.
"""

from typing import Any

import msgspec


class Txt2Img(msgspec.Struct, frozen=True, kw_only=True):
    """Body of `POST /sdapi/v1/txt2img`: every field is optional, unknown ones are ignored."""

    prompt: str | None = ""
    negative_prompt: str | None = ""
    styles: list[str] | None = None
    seed: int | None = -1
    subseed: int | None = -1
    subseed_strength: float | None = 0
    seed_resize_from_h: int | None = -1
    seed_resize_from_w: int | None = -1
    sampler_name: str | None = None
    scheduler: str | None = None
    batch_size: int | None = 1
    n_iter: int | None = 1
    steps: int | None = 50
    cfg_scale: float | None = 7.0
    width: int | None = 512
    height: int | None = 512
    restore_faces: bool | None = None
    tiling: bool | None = None
    do_not_save_samples: bool | None = False
    do_not_save_grid: bool | None = False
    eta: float | None = None
    denoising_strength: float | None = None
    s_min_uncond: float | None = None
    s_churn: float | None = None
    s_tmax: float | None = None
    s_tmin: float | None = None
    s_noise: float | None = None
    override_settings: dict[str, Any] | None = None
    override_settings_restore_afterwards: bool | None = True
    refiner_checkpoint: str | None = None
    refiner_switch_at: float | None = None
    disable_extra_networks: bool | None = False
    firstpass_image: str | None = None
    comments: dict[str, Any] | None = None
    enable_hr: bool | None = False
    firstphase_width: int | None = 0
    firstphase_height: int | None = 0
    hr_scale: float | None = 2.0
    hr_upscaler: str | None = None
    hr_second_pass_steps: int | None = 0
    hr_resize_x: int | None = 0
    hr_resize_y: int | None = 0
    hr_checkpoint_name: str | None = None
    hr_sampler_name: str | None = None
    hr_scheduler: str | None = None
    hr_prompt: str | None = ""
    hr_negative_prompt: str | None = ""
    force_task_id: str | None = None
    sampler_index: str = "Euler"
    script_name: str | None = None
    script_args: list[Any] = []
    send_images: bool = True
    save_images: bool = False
    alwayson_scripts: dict[str, Any] = {}
    infotext: str | None = None
    distilled_cfg_scale: float | msgspec.UnsetType | None = msgspec.UNSET


class Img2Img(msgspec.Struct, frozen=True, kw_only=True):
    """Body of `POST /sdapi/v1/img2img`: every field is optional but `init_images`, unknown ones are ignored."""

    prompt: str | None = ""
    negative_prompt: str | None = ""
    styles: list[str] | None = None
    seed: int | None = -1
    subseed: int | None = -1
    subseed_strength: float | None = 0
    seed_resize_from_h: int | None = -1
    seed_resize_from_w: int | None = -1
    sampler_name: str | None = None
    scheduler: str | None = None
    batch_size: int | None = 1
    n_iter: int | None = 1
    steps: int | None = 50
    cfg_scale: float | None = 7.0
    width: int | None = 512
    height: int | None = 512
    restore_faces: bool | None = None
    tiling: bool | None = None
    do_not_save_samples: bool | None = False
    do_not_save_grid: bool | None = False
    eta: float | None = None
    denoising_strength: float = 0.75
    s_min_uncond: float | None = None
    s_churn: float | None = None
    s_tmax: float | None = None
    s_tmin: float | None = None
    s_noise: float | None = None
    override_settings: dict[str, Any] | None = None
    override_settings_restore_afterwards: bool | None = True
    refiner_checkpoint: str | None = None
    refiner_switch_at: float | None = None
    disable_extra_networks: bool | None = False
    firstpass_image: str | None = None
    comments: dict[str, Any] | None = None
    init_images: list[Any] | None = None
    resize_mode: int | None = 0
    image_cfg_scale: float | None = None
    mask: str | None = None
    mask_blur_x: int | None = 4
    mask_blur_y: int | None = 4
    mask_blur: int | None = None
    mask_round: bool | None = True
    inpainting_fill: int | None = 0
    inpaint_full_res: bool | None = True
    inpaint_full_res_padding: int | None = 0
    inpainting_mask_invert: int | None = 0
    initial_noise_multiplier: float | None = None
    latent_mask: str | None = None
    force_task_id: str | None = None
    sampler_index: str = "Euler"
    include_init_images: bool = False
    script_name: str | None = None
    script_args: list[Any] = []
    send_images: bool = True
    save_images: bool = False
    alwayson_scripts: dict[str, Any] = {}
    infotext: str | None = None
    distilled_cfg_scale: float | msgspec.UnsetType | None = msgspec.UNSET


class ImagesAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of txt2img and img2img. `images` are base64 without a data prefix; `info` is JSON in a string."""

    images: list[str]
    parameters: dict[str, Any]
    info: str


class Info(msgspec.Struct, frozen=True, kw_only=True):
    """What the `info` string holds."""

    prompt: str
    all_prompts: list[str]
    negative_prompt: str
    all_negative_prompts: list[str]
    seed: int
    all_seeds: list[int]
    subseed: int
    all_subseeds: list[int]
    subseed_strength: float
    width: int
    height: int
    sampler_name: str
    cfg_scale: float
    steps: int
    batch_size: int
    restore_faces: bool
    face_restoration_model: str | None
    sd_model_name: str
    sd_model_hash: str | None
    sd_vae_name: str | None
    sd_vae_hash: str | None
    seed_resize_from_w: int
    seed_resize_from_h: int
    denoising_strength: float | None
    extra_generation_params: dict[str, Any]
    index_of_first_image: int
    infotexts: list[str]
    styles: list[str]
    job_timestamp: str
    clip_skip: int
    is_using_inpainting_conditioning: bool
    version: str | None


class PngInfoRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Body of `POST /sdapi/v1/png-info`."""

    image: str


class PngInfoAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of png-info: the infotext, the other text chunks, the infotext's fields."""

    info: str
    items: dict[str, Any]
    parameters: dict[str, Any]


class InterrogateRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Body of `POST /sdapi/v1/interrogate`."""

    image: str = ""
    model: str = "clip"


class CaptionAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of interrogate."""

    caption: str


class ProgressState(msgspec.Struct, frozen=True, kw_only=True):
    """The running job as `progress` shows it."""

    skipped: bool = False
    interrupted: bool = False
    stopping_generation: bool = False
    job: str = ""
    job_count: int = 0
    job_timestamp: str = "0"
    job_no: int = 0
    sampling_step: int = 0
    sampling_steps: int = 0


class ProgressAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `GET /sdapi/v1/progress`; idle is `progress` 0 with `job_count` 0."""

    progress: float
    eta_relative: float
    state: ProgressState
    current_image: str | None = None
    textinfo: str | None = None


class TaskProgressRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Body of `POST /internal/progress`."""

    id_task: str | None = None
    id_live_preview: int | None = -1
    live_preview: bool | None = True


class TaskProgress(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `POST /internal/progress`."""

    active: bool = False
    queued: bool = False
    completed: bool = False
    progress: float | None = None
    eta: float | None = None
    live_preview: str | None = None
    id_live_preview: int | None = -1
    textinfo: str | None = "Waiting..."


class SamplerItem(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `GET samplers`."""

    name: str
    aliases: list[str]
    options: dict[str, str]


class SchedulerItem(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `GET schedulers`."""

    name: str
    label: str
    aliases: list[str] | None
    default_rho: float
    need_inner_model: bool


class UpscalerItem(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `GET upscalers`."""

    name: str
    model_name: str | None = None
    model_path: str | None = None
    model_url: str | None = None
    scale: float | None = 4.0


class NameItem(msgspec.Struct, frozen=True, kw_only=True):
    """A row that is a name."""

    name: str


class ModelItem(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `GET sd-models`; hashes are null until they are known."""

    title: str
    model_name: str
    hash: str | None
    sha256: str | None
    filename: str
    config: str | None


class VaeItem(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `GET sd-vae`."""

    model_name: str
    filename: str


class PathItem(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `GET hypernetworks`."""

    name: str
    path: str


class FaceRestorerItem(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `GET face-restorers`."""

    name: str
    cmd_dir: str | None = None


class ScaledModelItem(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `GET realesrgan-models`."""

    name: str
    path: str | None
    scale: int | None


class StyleItem(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `GET prompt-styles`."""

    name: str
    prompt: str | None
    negative_prompt: str | None


class EmbeddingItem(msgspec.Struct, frozen=True, kw_only=True):
    """A textual inversion."""

    step: int | None
    sd_checkpoint: str | None
    sd_checkpoint_name: str | None
    shape: int
    vectors: int


class EmbeddingsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `GET embeddings`."""

    loaded: dict[str, EmbeddingItem]
    skipped: dict[str, EmbeddingItem]


class LoraItem(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `GET loras`."""

    name: str
    alias: str
    path: str
    metadata: dict[str, Any]


class ScriptsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `GET scripts`: titles in lower case."""

    txt2img: list[str]
    img2img: list[str]


class ResidentItem(msgspec.Struct, frozen=True, kw_only=True):
    """A loaded model in `GET memory`: bytes by pool, jobs that run on it."""

    model: str
    kind: str
    state: str
    jobs: int
    held: dict[str, int]


class MemoryAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `GET memory`: bytes. `models` is ours: every loaded model, those for chat too."""

    ram: dict[str, float | int]
    cuda: dict[str, Any]
    models: list[ResidentItem]


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """A1111's error body."""

    error: str
    detail: str = ""
    body: str = ""
    errors: str = ""
