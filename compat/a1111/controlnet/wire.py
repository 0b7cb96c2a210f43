"""The extension's JSON as structs; fields as they are after synonyms were replaced. Null means the default."""

from typing import Any

import msgspec


class Unit(msgspec.Struct, frozen=True, kw_only=True):
    """One of `alwayson_scripts.controlnet.args`. Thresholds and resolution of -1 are the module's own."""

    enabled: bool | None = None
    module: str | None = None
    model: str | None = None
    weight: float | None = None
    image: Any = None
    mask: Any = None
    resize_mode: Any = None
    low_vram: bool | None = None
    processor_res: float | None = None
    threshold_a: float | None = None
    threshold_b: float | None = None
    guidance_start: float | None = None
    guidance_end: float | None = None
    pixel_perfect: bool | None = None
    control_mode: Any = None
    guessmode: Any = None
    inpaint_crop_input_image: bool | None = None
    hr_option: str | None = None
    save_detected_map: bool | None = None
    advanced_weighting: list[float] | None = None
    effective_region_mask: str | None = None
    ipadapter_input: Any = None


SYNONYMS = {
    "guidance": "guidance_end",
    "lowvram": "low_vram",
    "input_image": "image",
    "mask_image": "mask",
    "guess_mode": "guessmode",
}
"""Older names of fields; a field and its synonym together are a mistake."""


class DetectRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Body of `POST detect`. `controlnet_images` is what some clients call the pictures."""

    controlnet_module: str = "none"
    controlnet_input_images: list[Any] = []
    controlnet_images: list[Any] = []
    controlnet_processor_res: float = -1
    controlnet_threshold_a: float = -1
    controlnet_threshold_b: float = -1
    controlnet_masks: list[Any] = []
    low_vram: bool = False


class PicturesAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Answer of `detect` and `render_openpose_json`; `images` are base64 PNGs."""

    info: str
    images: list[str] = []


class VersionAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `GET version`."""

    version: int


class ModelList(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `GET model_list`."""

    model_list: list[str]


class SliderItem(msgspec.Struct, frozen=True, kw_only=True):
    """A slider of a module."""

    name: str
    value: float
    min: float
    max: float
    step: float


class ModuleDetail(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a module has. `unavailable` says why it does not work here."""

    model_free: bool
    sliders: list[SliderItem]
    unavailable: str | None = None


class ModuleList(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `GET module_list`."""

    module_list: list[str]
    module_detail: dict[str, ModuleDetail]


class ControlType(msgspec.Struct, frozen=True, kw_only=True):
    """The menus of one type of control."""

    module_list: list[str]
    model_list: list[str]
    default_option: str
    default_model: str


class ControlTypes(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `GET control_types`."""

    control_types: dict[str, ControlType]


class SettingsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `GET settings`."""

    control_net_unit_count: int
