"""How a picture is asked for, wherever that can be: by the picture routes, and by the built-in tool of conversations.

Source: OpenAI's published OpenAPI document 2.3.0 and the types of its Python package 3.54. `None` means absent.

Hearth's own fields, which OpenAI does not have:

| field | means | default |
|---|---|---|
| `negative_prompt` | what shall not be seen | empty |
| `seed` | of the first picture; the others count up; -1 = random | random |
| `steps` | of denoising | by `quality`, see `images.recipes` |
| `cfg_scale` | how strongly the prompt guides | 7 |
| `sampler` | `euler`, `euler_a`, `heun`, `dpmpp_2m`, `dpmpp_sde`, `ddim`, `unipc`, `lcm` ... | `dpmpp_2m` |
| `schedule` | `uniform`, `karras`, `exponential`, `sgm_uniform` ... | `karras` |
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

MAX_PICTURES = 10
MAX_PROMPT = 32_000
MAX_STEPS = 1000
MAX_SEED = 2**63 - 1 - MAX_PICTURES

Words = Annotated[str, Meta(max_length=MAX_PROMPT)]
Partials = Annotated[int, Meta(ge=0, le=3)]
PictureSeed = Annotated[int, Meta(ge=-1, le=MAX_SEED)]
Steps = Annotated[int, Meta(ge=1, le=MAX_STEPS)]
Guidance = Annotated[float, Meta(ge=0, le=100)]
Compression = Annotated[int, Meta(ge=0, le=100)]
Background = Literal["transparent", "opaque", "auto"]
Fidelity = Literal["high", "low"]
Name = Annotated[str, Meta(pattern=r"^[a-z0-9_]{1,64}$")]
Short = Annotated[str, Meta(max_length=64)]


class PictureFields(Struct, frozen=True, kw_only=True):
    """What may be said of any picture. `size` is `auto` or `WIDTHxHEIGHT`."""

    model: Annotated[str, Meta(max_length=1024)] | None = None
    size: Short | None = None
    quality: Short | None = None
    output_format: Short | None = None
    output_compression: Compression | None = None
    background: Background | None = None
    partial_images: Partials | None = None
    negative_prompt: Words | None = None
    seed: PictureSeed | None = None
    steps: Steps | None = None
    cfg_scale: Guidance | None = None
    sampler: Name | None = None
    schedule: Name | None = None


class MaskAddress(Struct, frozen=True, kw_only=True):
    """Where a mask is: a data URL, or a file of the hosted service."""

    image_url: str | None = None
    file_id: Annotated[str, Meta(max_length=256)] | None = None


class ToolPictures(PictureFields, frozen=True, kw_only=True):
    """What the tool `image_generation` may say of its pictures."""

    action: Literal["generate", "edit", "auto"] | None = None
    input_fidelity: Fidelity | None = None
    input_image_mask: MaskAddress | None = None
    moderation: Short | None = None


class ToolFields(ToolPictures, frozen=True, kw_only=True):
    """A tool of a conversation. Only one of the type `image_generation` says something of pictures."""

    type: str = "function"
