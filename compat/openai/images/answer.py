"""A job's pictures as the answer: PNGs that carry how they were made, as base64 or behind URLs."""

import base64
import json
from collections.abc import AsyncIterable, Callable, Sequence

import msgspec

from compat.openai.images import wire
from compat.openai.images.recipes import Effort
from server.core.errors import Cancelled, ProtocolError
from server.core.image import ImageFinished, ImageReady, ImageRequest, ImageStarted, Preview, Size, StepDone
from server.core.jobs import Event, Loading, Waiting
from server.core.prompt import PromptTree, Span
from server.http.png import add_text

SOFTWARE = "Hearth"


class Making(msgspec.Struct, frozen=True, kw_only=True):
    """What the answer tells of the request. `created` is in Unix seconds."""

    work: ImageRequest
    effort: Effort
    created: int


async def collect(events: AsyncIterable[Event]) -> tuple[ImageReady, ...]:
    """Read a job's events to the end; raise Cancelled when it ended before its first picture."""
    pictures: list[ImageReady] = []
    async for event in events:
        match event:
            case ImageReady():
                pictures.append(event)
            case Waiting() | Loading() | ImageStarted() | StepDone() | Preview() | ImageFinished():
                pass
            case _:
                raise ProtocolError("a job for pictures gave something else")
    if not pictures:
        raise Cancelled("the request was cancelled before a picture was ready", mode="stop")
    return tuple(pictures)


def as_base64(making: Making, pictures: Sequence[ImageReady]) -> bytes:
    """Return the JSON of an answer that holds its pictures; may take a while."""
    return _encoded(making, pictures, tuple(wire.Picture(b64_json=encoded(making, each)) for each in pictures))


def as_urls(making: Making, pictures: Sequence[ImageReady], keep: Callable[[bytes], str]) -> bytes:
    """Return the JSON of an answer whose pictures `keep` has put behind the URLs it returns."""
    return _encoded(making, pictures, tuple(wire.Picture(url=keep(signed(making, each))) for each in pictures))


def encoded(making: Making, picture: ImageReady) -> str:
    """Return a finished picture as base64."""
    return base64.b64encode(signed(making, picture)).decode("ascii")


def signed(making: Making, picture: ImageReady) -> bytes:
    """Return the PNG with the prompt and how it was made, under the keywords that PNG's specification has for such."""
    work = making.work
    facts = {
        "model": work.model,
        "negative_prompt": text_of(work.negative),
        "seed": picture.seed,
        "steps": work.denoise.steps,
        "cfg_scale": work.denoise.cfg_scale,
        "sampler": work.denoise.sampler,
        "schedule": work.denoise.schedule,
        "size": size_text(Size(picture.width, picture.height)),
    }
    if work.init is not None:
        facts["strength"] = work.init.strength
    comment = json.dumps(facts, ensure_ascii=False)
    return add_text(picture.png, {"Description": text_of(work.prompt), "Software": SOFTWARE, "Comment": comment})


def text_of(tree: PromptTree) -> str:
    """Return the text of a plain prompt."""
    pieces = tree.parts[0].texts[0].pieces
    return "".join(piece.text for piece in pieces if isinstance(piece, Span))


def size_text(size: Size) -> str:
    """Return a size as the API writes it."""
    return f"{size.width}x{size.height}"


def _encoded(making: Making, pictures: Sequence[ImageReady], data: tuple[wire.Picture, ...]) -> bytes:
    size = size_text(Size(pictures[0].width, pictures[0].height))
    told = wire.PicturesAnswer(created=making.created, data=data, quality=making.effort, size=size)
    return msgspec.json.encode(told)
