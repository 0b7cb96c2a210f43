"""What becomes of the calls of the tool, told between a chat's events. `number` counts an answer's calls from 0."""

import msgspec

from server.core.image import FileKind
from server.core.jobs import Event


class CallBegins(msgspec.Struct, frozen=True):
    """The model begins to say what it wants."""

    number: int


class PictureBegins(msgspec.Struct, frozen=True):
    """The call is whole, and its picture is to be made."""

    number: int


class PartialPicture(msgspec.Struct, frozen=True, kw_only=True):
    """A rough look at the picture: number `index` from 0, a PNG in base64."""

    number: int
    index: int
    base64: str
    size: str
    quality: str


class PictureMade(msgspec.Struct, frozen=True, kw_only=True):
    """The picture is there, a file in base64. `edited`: it was made of an earlier one."""

    number: int
    prompt: str
    base64: str
    kind: FileKind
    size: str
    quality: str
    edited: bool = False


class CallFailed(msgspec.Struct, frozen=True):
    """The call has led to nothing, which the model is told, too."""

    number: int


PictureEvent = CallBegins | PictureBegins | PartialPicture | PictureMade | CallFailed
Told = Event | PictureEvent
"""All that an answer is made of."""
