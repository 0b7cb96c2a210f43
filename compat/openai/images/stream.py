"""A job's events as the events of a streamed answer: partial pictures, evenly spread over the steps, then whole ones.

    image_generation.partial_image   at most `partial_images` of them for each picture, counted from 0
    image_generation.completed       once for each picture

For edits the names begin with `image_edit`. An answer ends without `[DONE]`, as OpenAI's does.
"""

import base64
from typing import Literal

import msgspec

from compat.openai.images import wire
from compat.openai.images.answer import Making, encoded, size_text
from server.core.errors import Cancelled
from server.core.image import ImageReady, Preview, Size, StepDone
from server.core.jobs import Event

Kind = Literal["image_generation", "image_edit"]
StreamEvent = wire.PartialPicture | wire.CompletedPicture


class Partials:
    """Chooses which previews of a picture are told: the engine may make more than are wanted."""

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted
        self._told = 0
        self._share = 0.0

    def step(self, event: StepDone) -> None:
        """Note how far the picture is."""
        self._share = event.step / max(event.steps, 1)

    def next(self) -> int | None:
        """Return the number (from 0) that a preview made now is told under, None when it is not told."""
        # The first half step is forgiven: with few steps the shares are coarse.
        if self._told >= self._wanted or self._share * (self._wanted + 1) < self._told + 0.5:
            return None
        self._told += 1
        return self._told - 1

    def restart(self) -> None:
        """Begin with another picture."""
        self._told, self._share = 0, 0.0


class PictureEncoder:
    """Makes the events of one streamed answer."""

    def __init__(self, kind: Kind, making: Making, partials: int) -> None:
        self._kind = kind
        self._making = making
        self._partials = Partials(partials)
        self._pictures = 0

    def feed(self, event: Event) -> list[StreamEvent]:
        """Return the events that an event of the job makes."""
        match event:
            case StepDone():
                self._partials.step(event)
            case Preview() if (number := self._partials.next()) is not None:
                return [self._partial(event.png, number)]
            case ImageReady():
                self._partials.restart()
                self._pictures += 1
                return [self._completed(event)]
            case _:
                pass
        return []

    def close(self) -> None:
        """Raise Cancelled when the job has ended without a picture."""
        if not self._pictures:
            raise Cancelled("the request was cancelled before a picture was ready", mode="stop")

    def _partial(self, png: bytes, number: int) -> wire.PartialPicture:
        making = self._making
        return wire.PartialPicture(
            type=f"{self._kind}.partial_image",
            b64_json=base64.b64encode(png).decode("ascii"),
            partial_image_index=number,
            created_at=making.created,
            quality=making.effort,
            size=size_text(making.work.size),
        )

    def _completed(self, picture: ImageReady) -> wire.CompletedPicture:
        making = self._making
        return wire.CompletedPicture(
            type=f"{self._kind}.completed",
            b64_json=encoded(making, picture),
            created_at=making.created,
            output_format=making.kind,
            quality=making.effort,
            size=size_text(Size(picture.width, picture.height)),
        )


def encode(event: StreamEvent) -> bytes:
    """Return the JSON of an event."""
    return msgspec.json.encode(event)
