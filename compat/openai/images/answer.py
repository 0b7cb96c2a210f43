"""A job's pictures as the answer: files that carry how they were made, as base64 or behind URLs.

A PNG has three texts, under the keywords that its specification has for such: `Description` (the prompt), `Software`,
and `Comment` (the rest, as JSON). JPEG and WebP have one comment: JSON with all of it.
"""

import base64
import json
from collections.abc import AsyncIterable, Callable, Sequence

import msgspec

from compat.openai.images import wire
from compat.openai.images.recipes import Effort
from server.core.errors import Cancelled, ProtocolError
from server.core.image import FileKind, ImageFinished, ImageReady, ImageRequest, ImageStarted, Preview, Size, StepDone
from server.core.jobs import Event, Loading, Waiting
from server.core.prompt import PromptTree, Span
from server.http.picture_files import with_comment
from server.http.png import add_text

SOFTWARE = "Hearth"


class Making(msgspec.Struct, frozen=True, kw_only=True):
    """What the answer tells of the request. `created` is in Unix seconds."""

    work: ImageRequest
    effort: Effort
    created: int

    @property
    def kind(self) -> FileKind:
        """Return the format of the files."""
        return self.work.file.kind


class Collected(msgspec.Struct, frozen=True):
    """What a job gave: its pictures, and the fields (in the core's words) that the model had no use for."""

    pictures: tuple[ImageReady, ...]
    ignored: tuple[str, ...] = ()


async def collect(events: AsyncIterable[Event]) -> Collected:
    """Read a job's events to the end; raise Cancelled when it ended before its first picture."""
    pictures: list[ImageReady] = []
    ignored: tuple[str, ...] = ()
    async for event in events:
        match event:
            case ImageReady():
                pictures.append(event)
            case ImageFinished():
                ignored = event.ignored
            case Waiting() | Loading() | ImageStarted() | StepDone() | Preview():
                pass
            case _:
                raise ProtocolError("a job for pictures gave something else")
    if not pictures:
        raise Cancelled("the request was cancelled before a picture was ready", mode="stop")
    return Collected(tuple(pictures), ignored)


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
    """Return the file with the prompt and how it was made in it."""
    work = making.work
    prompt = text_of(work.prompt)
    facts: dict[str, str | int | float] = {
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
    if picture.file:
        told = {"prompt": prompt, **facts, "software": SOFTWARE}
        return with_comment(picture.file, json.dumps(told, ensure_ascii=False))
    comment = json.dumps(facts, ensure_ascii=False)
    return add_text(picture.png, {"Description": prompt, "Software": SOFTWARE, "Comment": comment})


def text_of(tree: PromptTree) -> str:
    """Return the text of a plain prompt."""
    pieces = tree.parts[0].texts[0].pieces
    return "".join(piece.text for piece in pieces if isinstance(piece, Span))


def size_text(size: Size) -> str:
    """Return a size as the API writes it."""
    return f"{size.width}x{size.height}"


def _encoded(making: Making, pictures: Sequence[ImageReady], data: tuple[wire.Picture, ...]) -> bytes:
    size = size_text(Size(pictures[0].width, pictures[0].height))
    told = wire.PicturesAnswer(
        created=making.created, data=data, output_format=making.kind, quality=making.effort, size=size
    )
    return msgspec.json.encode(told)
