"""The JSON of `/v1/images/*`, as structs without logic.

Source: OpenAI's published OpenAPI document 2.3.0 and the types of its Python package 3.54. `None` means absent. Fields
that are accepted without effect are not here; see `compat.openai.images.fields`.

Hearth's own fields, which OpenAI does not have:

| field | means | default |
|---|---|---|
| `negative_prompt` | what shall not be seen | empty |
| `seed` | of the first picture; the others count up; -1 = random | random |
| `steps` | of denoising | by `quality`, see `recipes` |
| `cfg_scale` | how strongly the prompt guides | 7 |
| `sampler` | `euler`, `euler_a`, `heun`, `dpmpp_2m`, `dpmpp_sde`, `ddim`, `unipc`, `lcm` ... | `dpmpp_2m` |
| `schedule` | `uniform`, `karras`, `exponential`, `sgm_uniform` ... | `karras` |
| `strength` | 0 ... 1, how far an edit or a variation goes | see `convert` |
"""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from compat.openai.wire import INT64, ModelName, ShortText

MAX_PICTURES = 10
MAX_PROMPT = 32_000
MAX_STEPS = 1000

Prompt = Annotated[str, Meta(min_length=1, max_length=MAX_PROMPT)]
Words = Annotated[str, Meta(max_length=MAX_PROMPT)]
Pictures = Annotated[int, Meta(ge=1, le=MAX_PICTURES)]
Partials = Annotated[int, Meta(ge=0, le=3)]
PictureSeed = Annotated[int, Meta(ge=-1, le=INT64 - MAX_PICTURES)]
Steps = Annotated[int, Meta(ge=1, le=MAX_STEPS)]
Guidance = Annotated[float, Meta(ge=0, le=100)]
Strength = Annotated[float, Meta(ge=0, le=1)]
Name = Annotated[str, Meta(pattern=r"^[a-z0-9_]{1,64}$")]


class PictureFields(Struct, frozen=True, kw_only=True):
    """What all three requests may say. `size` is `auto` or `WIDTHxHEIGHT`."""

    model: ModelName | None = None
    n: Pictures | None = None
    size: ShortText | None = None
    quality: ShortText | None = None
    response_format: Literal["b64_json", "url"] | None = None
    output_format: ShortText | None = None
    stream: bool | None = None
    partial_images: Partials | None = None
    negative_prompt: Words | None = None
    seed: PictureSeed | None = None
    steps: Steps | None = None
    cfg_scale: Guidance | None = None
    sampler: Name | None = None
    schedule: Name | None = None


class GenerationRequest(PictureFields, frozen=True, kw_only=True):
    """`POST /v1/images/generations`."""

    prompt: Prompt


class EditRequest(PictureFields, frozen=True, kw_only=True):
    """The texts of `POST /v1/images/edits`; its pictures are `image` and `mask`."""

    prompt: Prompt
    input_fidelity: Literal["high", "low"] | None = None
    strength: Strength | None = None


class VariationRequest(PictureFields, frozen=True, kw_only=True):
    """The texts of `POST /v1/images/variations`; its picture is `image`."""

    prompt: Words = ""
    strength: Strength | None = None


PictureRequest = GenerationRequest | EditRequest | VariationRequest


class TokenDetails(Struct, frozen=True, kw_only=True):
    """Tokens by what they stand for."""

    text_tokens: int = 0
    image_tokens: int = 0


class PictureUsage(Struct, frozen=True, kw_only=True):
    """All zero: a diffusion model has no such tokens, but the package's types want the object."""

    total_tokens: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    input_tokens_details: TokenDetails = field(default_factory=TokenDetails)
    output_tokens_details: TokenDetails = field(default_factory=TokenDetails)


class Picture(Struct, frozen=True, kw_only=True):
    """One finished picture, as base64 of a PNG or as the URL of one."""

    b64_json: str | UnsetType = UNSET
    url: str | UnsetType = UNSET


class PicturesAnswer(Struct, frozen=True, kw_only=True):
    """The whole answer of all three routes."""

    created: int
    data: tuple[Picture, ...]
    background: str = "opaque"
    output_format: str = "png"
    quality: str
    size: str
    usage: PictureUsage = field(default_factory=PictureUsage)


class PartialPicture(Struct, frozen=True, kw_only=True):
    """The event `image_generation.partial_image` or `image_edit.partial_image`: a rough look, in fewer pixels."""

    type: str
    b64_json: str
    partial_image_index: int
    created_at: int
    background: str = "opaque"
    output_format: str = "png"
    quality: str
    size: str


class CompletedPicture(Struct, frozen=True, kw_only=True):
    """The event `image_generation.completed` or `image_edit.completed`, once for each picture."""

    type: str
    b64_json: str
    created_at: int
    background: str = "opaque"
    output_format: str = "png"
    quality: str
    size: str
    usage: PictureUsage = field(default_factory=PictureUsage)
