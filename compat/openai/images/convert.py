"""Picture requests to the core's words. Pure: the checkpoint and the dice come in.

An edit goes further when nothing of the picture needs to stay:

| asked | `strength` | of which |
|---|---|---|
| edit, `input_fidelity` absent or `low` | 0.75 | the whole picture |
| edit, `input_fidelity` `high` | 0.5 | the whole picture |
| edit with a mask | 1, with `high` 0.75 | the transparent part; the rest keeps its pixels |
| variation | 0.6 | the whole picture |

A size `auto` means the checkpoint's own square, and for an edit or a variation as many pixels in the shape of the
picture. `output_compression` is the quality of JPEG and WebP: 100 keeps most.
"""

import random
import re
from collections.abc import Iterable

import msgspec

from compat.openai.images import recipes, wire
from compat.openai.images.look import Look
from compat.openai.images.recipes import Effort, Recipe
from server.core.errors import InvalidValue, Unsupported
from server.core.image import Denoise, FileFormat, FileKind, ImageRequest, InitImages, Inpaint, Seeds, Size
from server.core.models import ModelCard
from server.core.prompt import plain

SMALLEST_SIDE = 64
MOST_PIXELS = 16_777_216
EDIT_STRENGTH = {"low": 0.75, "high": 0.5}
MASKED_STRENGTH = {"low": 1.0, "high": 0.75}
VARIATION_STRENGTH = 0.6

DRAWN = 2**32
_SIZE = re.compile(r"(\d{1,5})[xX](\d{1,5})", re.ASCII)
FILE_KINDS: dict[str, FileKind] = {"png": "png", "jpeg": "jpeg", "jpg": "jpeg", "webp": "webp"}
LONGEST_WEBP = 16_383


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """The picture that a request starts from, looked at, and its mask."""

    image: bytes
    seen: Look
    mask: bytes | None = None


def draw_seed() -> int:
    """Return a random seed: 0 ... 2^32 - 1."""
    return random.randrange(DRAWN)


def to_core(request: wire.PictureRequest, card: ModelCard, seed: int, given: Given | None = None) -> ImageRequest:
    """Return what the engine is asked for. `seed` counts where the request has none.

    Raises:
        InvalidValue: a size that is none, or out of bounds.
        Unsupported: an output format that is not made here, a transparent background, or a URL asked for in a stream.
    """
    _check_form(request)
    file = file_of(request)
    size = size_of(request, card, given)
    if file.kind == "webp" and max(size.width, size.height) > LONGEST_WEBP:
        raise InvalidValue.of("size", f"the sides of a WebP picture have {LONGEST_WEBP} pixels at most")
    recipe = recipes.recipe_of(card)
    denoise = denoise_of(request, recipe)
    count = request.n or 1
    return ImageRequest(
        model=card.id,
        prompt=plain(request.prompt),
        negative=plain(request.negative_prompt or ""),
        size=size,
        seeds=Seeds(first=request.seed if request.seed not in (None, -1) else seed),
        denoise=denoise,
        batches=count,
        init=None if given is None else init_of(request, given),
        preview_every=preview_every(request, denoise.steps),
        file=file,
    )


def file_of(request: wire.PictureRequest) -> FileFormat:
    """Return how the pictures are written; raise Unsupported."""
    kind = FILE_KINDS.get((request.output_format or "png").lower())
    if kind is None:
        raise Unsupported.of("output_format", f"'output_format' must be one of {', '.join(FILE_KINDS)}")
    if kind == "png":
        return FileFormat()
    kept = 100 if request.output_compression is None else request.output_compression
    return FileFormat(kind=kind, quality=max(kept, 1))


def denoise_of(request: wire.PictureRequest, recipe: Recipe) -> Denoise:
    """Return how noise is removed: the recipe, with what the request says itself."""
    given = request.cfg_scale
    return Denoise(
        sampler=request.sampler or recipe.sampler,
        schedule=request.schedule or recipe.schedule,
        steps=request.steps or recipe.steps[effort_of(request)],
        cfg_scale=recipe.cfg_scale if given is None else given,
    )


def effort_of(request: wire.PictureRequest) -> Effort:
    """Return the effort asked for; an unknown quality counts as none."""
    return recipes.effort_of(request.quality) or "medium"


def size_of(request: wire.PictureRequest, card: ModelCard, given: Given | None = None) -> Size:
    """Return the size of the picture; raise InvalidValue."""
    text = (request.size or "auto").strip()
    if text.lower() == "auto":
        side = recipes.side_of(card)
        return Size(side, side) if given is None else recipes.fitted(given.seen.width, given.seen.height, side)
    found = _SIZE.fullmatch(text)
    if found is None:
        raise InvalidValue.of("size", "'size' must be auto, or like 512x768")
    size = Size(int(found[1]), int(found[2]))
    if min(size.width, size.height) < SMALLEST_SIDE or size.width * size.height > MOST_PIXELS:
        text = f"'size' must have sides of at least {SMALLEST_SIDE} pixels, and {MOST_PIXELS} pixels at most"
        raise InvalidValue.of("size", text)
    return size


def init_of(request: wire.PictureRequest, given: Given) -> InitImages:
    """Return how a picture is begun from the one given; a picture of another shape is cropped to the size."""
    return InitImages(
        images=(given.image,),
        strength=strength_of(request, masked=given.mask is not None),
        resize="crop",
        # A mask says by its transparency where new pixels go; the engine takes what is opaque.
        inpaint=None if given.mask is None else Inpaint(mask=given.mask, invert=True, content="fill"),
    )


def strength_of(request: wire.PictureRequest, *, masked: bool) -> float:
    """Return the share of noise put on the picture."""
    match request:
        case wire.EditRequest(strength=None):
            table = MASKED_STRENGTH if masked else EDIT_STRENGTH
            return table[request.input_fidelity or "low"]
        case wire.VariationRequest(strength=None):
            return VARIATION_STRENGTH
        case wire.EditRequest() | wire.VariationRequest():
            return request.strength or 0.0
        case _:
            raise InvalidValue.of("strength", "a picture from a prompt alone has no strength")


def preview_every(request: wire.PictureRequest, steps: int) -> int:
    """Return after how many model calls a preview is made, so that there are enough for the partial pictures."""
    wanted = request.partial_images or 0
    return max(steps // (wanted + 1), 1) if request.stream and wanted else 0


def without_effect(request: wire.PictureRequest) -> tuple[str, ...]:
    """Return the fields whose value has no effect."""
    names = []
    if recipes.effort_of(request.quality) is None:
        names.append("quality")
    if request.output_compression not in (None, 100) and file_of(request).kind == "png":
        names.append("output_compression")
    if request.partial_images and not request.stream:
        names.append("partial_images")
    return tuple(names)


def unused(request: wire.PictureRequest, ignored: Iterable[str]) -> tuple[str, ...]:
    """Return which fields that a model had no use for the request itself names; they are called alike here."""
    return tuple(name for name in ignored if getattr(request, name, None) is not None)


def _check_form(request: wire.PictureRequest) -> None:
    if request.background == "transparent":
        raise Unsupported.of("background", "pictures are opaque here; leave background out")
    if request.stream and request.response_format == "url":
        raise Unsupported.of("response_format", "a stream carries pictures as b64_json; leave response_format out")
