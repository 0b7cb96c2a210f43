"""The JSON of `/v1/images/*`, as structs without logic.

What they share with the tool of conversations is in `compat.openai.picture_fields`, with the fields of Hearth's own;
`strength`, one more of these, is 0 ... 1: how far an edit or a variation goes (see `convert` for its default).
Fields that are accepted without effect are not here; see `compat.openai.images.fields`.
"""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from compat.openai.picture_fields import MAX_PICTURES, MAX_PROMPT, Fidelity, PictureFields, Words

Prompt = Annotated[str, Meta(min_length=1, max_length=MAX_PROMPT)]
Pictures = Annotated[int, Meta(ge=1, le=MAX_PICTURES)]
Strength = Annotated[float, Meta(ge=0, le=1)]


class RouteFields(PictureFields, frozen=True, kw_only=True):
    """What all three requests may say."""

    n: Pictures | None = None
    response_format: Literal["b64_json", "url"] | None = None
    stream: bool | None = None


class GenerationRequest(RouteFields, frozen=True, kw_only=True):
    """`POST /v1/images/generations`."""

    prompt: Prompt


class EditRequest(RouteFields, frozen=True, kw_only=True):
    """The texts of `POST /v1/images/edits`; its pictures are `image` and `mask`."""

    prompt: Prompt
    input_fidelity: Fidelity | None = None
    strength: Strength | None = None


class VariationRequest(RouteFields, frozen=True, kw_only=True):
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
    """One finished picture, as base64 of a file or as the URL of one."""

    b64_json: str | UnsetType = UNSET
    url: str | UnsetType = UNSET


class PicturesAnswer(Struct, frozen=True, kw_only=True):
    """The whole answer of all three routes."""

    created: int
    data: tuple[Picture, ...]
    background: str = "opaque"
    output_format: str
    quality: str
    size: str
    usage: PictureUsage = field(default_factory=PictureUsage)


class PartialPicture(Struct, frozen=True, kw_only=True):
    """The event `image_generation.partial_image` or `image_edit.partial_image`: a rough look, a small PNG."""

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
    output_format: str
    quality: str
    size: str
    usage: PictureUsage = field(default_factory=PictureUsage)
