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


class PictureEncoder:
    """Makes the events of one streamed answer. The engine may make more previews than are wanted."""

    def __init__(self, kind: Kind, making: Making, partials: int) -> None:
        self._kind = kind
        self._making = making
        self._partials = partials
        self._told = 0
        self._share = 0.0
        self._pictures = 0

    def feed(self, event: Event) -> list[StreamEvent]:
        """Return the events that an event of the job makes."""
        match event:
            case StepDone():
                self._share = event.step / max(event.steps, 1)
            case Preview() if self._is_due():
                self._told += 1
                return [self._partial(event.png)]
            case ImageReady():
                self._told, self._share = 0, 0.0
                self._pictures += 1
                return [self._completed(event)]
            case _:
                pass
        return []

    def close(self) -> None:
        """Raise Cancelled when the job has ended without a picture."""
        if not self._pictures:
            raise Cancelled("the request was cancelled before a picture was ready", mode="stop")

    def _is_due(self) -> bool:
        # The first half step is forgiven: with few steps the shares are coarse.
        return self._told < self._partials and self._share * (self._partials + 1) >= self._told + 0.5

    def _partial(self, png: bytes) -> wire.PartialPicture:
        making = self._making
        return wire.PartialPicture(
            type=f"{self._kind}.partial_image",
            b64_json=base64.b64encode(png).decode("ascii"),
            partial_image_index=self._told - 1,
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
            quality=making.effort,
            size=size_text(Size(picture.width, picture.height)),
        )


def encode(event: StreamEvent) -> bytes:
    """Return the JSON of an event."""
    return msgspec.json.encode(event)
