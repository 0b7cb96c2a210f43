"""The bodies and answers of `extra-single-image` and `extra-batch-images`, in A1111's field order."""

from typing import Any

import msgspec


class Extras(msgspec.Struct, frozen=True, kw_only=True):
    """The fields that both routes have. None of them may be null."""

    resize_mode: int = 0
    show_extras_results: bool = True
    gfpgan_visibility: float = 0
    codeformer_visibility: float = 0
    codeformer_weight: float = 0
    upscaling_resize: float = 2
    upscaling_resize_w: int = 512
    upscaling_resize_h: int = 512
    upscaling_crop: bool = True
    upscaler_1: str = "None"
    upscaler_2: str = "None"
    extras_upscaler_2_visibility: float = 0
    upscale_first: bool = False


class SingleExtras(Extras, frozen=True, kw_only=True):
    """Body of `POST extra-single-image`."""

    image: str = ""


class BatchExtras(Extras, frozen=True, kw_only=True):
    """Body of `POST extra-batch-images`; each entry has `data` and `name`."""

    imageList: list[dict[str, Any]]  # noqa: N815 (A1111's name)


class SingleAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `extra-single-image`."""

    html_info: str
    image: str


class BatchAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `extra-batch-images`."""

    html_info: str
    images: list[str]
