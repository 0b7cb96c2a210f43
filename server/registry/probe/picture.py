"""Textual inversions inside PNG files, as A1111 shares them: a text chunk `sd-ti-embedding` of base64, JSON inside."""

import base64
import binascii
import struct
from typing import BinaryIO

import msgspec

from server.core.models import ModelKind
from server.registry.probe.base import BrokenModel, Finding, NotMine

SIGNATURE = b"\x89PNG\r\n\x1a\n"
KEYWORD = b"sd-ti-embedding"

NAME_KEY = "embedding.name"
"""Where a card's metadata hold the name that a picture gives its embedding."""

MOST_BYTES = 16 * 1024 * 1024
MOST_CHUNKS = 10_000


class _Inside(msgspec.Struct):
    name: str | None = None


def identify_picture(file: BinaryIO) -> Finding:
    """Return the finding for a PNG that is a textual inversion.

    Raises:
        NotMine: an ordinary picture, such as the preview of a model beside it.
        BrokenModel: the embedding inside is damaged.
    """
    packed = _text_chunk(file)
    if packed is None:
        raise NotMine("a picture without an embedding inside")
    try:
        inside = msgspec.json.decode(base64.b64decode(packed, validate=True), type=_Inside)
    except (binascii.Error, ValueError, msgspec.DecodeError):
        raise BrokenModel("the embedding inside the picture cannot be read") from None
    return Finding(kind=ModelKind.EMBEDDING, metadata={NAME_KEY: inside.name} if inside.name else {})


def _text_chunk(file: BinaryIO) -> bytes | None:
    """Return the chunk's text. Pixels are passed over."""
    file.seek(len(SIGNATURE))
    for _ in range(MOST_CHUNKS):
        head = file.read(8)
        if len(head) < 8 or head[4:] == b"IEND":
            return None
        (length,) = struct.unpack(">I", head[:4])
        if head[4:] == b"tEXt" and length <= MOST_BYTES:
            keyword, _, text = file.read(length).partition(b"\0")
            if keyword == KEYWORD:
                return text
            length = 0
        file.seek(length + 4, 1)
    return None
