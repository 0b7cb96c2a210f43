"""Finished picture files: what kind they are, and a comment put into them or read, without touching the pixels.

| kind | where the comment stands |
|---|---|
| JPEG | EXIF's UserComment, in a segment behind the first one (ITU T.81 B.1, EXIF 2.3) |
| WebP | the same, in the chunk `EXIF` of an extended file (RFC 9649) |
| GIF | the first comment extension; read only (GIF89a, 24) |

PNG has texts with names of their own: `server.http.png`.
"""

import re
import struct
from collections.abc import Iterator
from itertools import islice

from server.core.errors import BadImage
from server.core.image import FileKind
from server.http import exif, png

MEDIA_TYPES: dict[FileKind, str] = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}

_JPEG = b"\xff\xd8"
_BARE = frozenset({0x01, *range(0xD0, 0xD8)})
_APP1, _SCAN = 0xE1, 0xDA
_FILL = re.compile(rb"\xff+")
_MOST_SEGMENTS = 1024
_MOST_CHUNKS = 4096
_HAS_ALPHA, _HAS_EXIF = 0x10, 0x08


def kind_of(data: bytes) -> FileKind | None:
    """Return which of the formats that are written here a file has."""
    if data.startswith(png.SIGNATURE):
        return "png"
    if data.startswith(_JPEG + b"\xff"):
        return "jpeg"
    return "webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None


def with_comment(data: bytes, comment: str) -> bytes:
    """Return a JPEG or WebP file, as our encoders write them, with a comment; raise BadImage for another one."""
    block = exif.block(comment)
    match kind_of(data):
        case "jpeg":
            return _into_jpeg(data, exif.MARK + block)
        case "webp":
            return _into_webp(data, block)
        case _:
            raise BadImage("only JPEG and WebP files are given a comment")


def comment_of(data: bytes) -> str:
    """Return the comment of a file of any kind, empty when there is none or what holds it is damaged."""
    try:
        if data.startswith(b"GIF8"):
            return _in_gif(data)
        match kind_of(data):
            case "jpeg":
                blocks = (data[at : at + n] for marker, at, n in segments(data) if marker == _APP1)
                block = next((one for one in blocks if one.startswith(exif.MARK)), b"")
            case "webp":
                block = next((body for name, body in _chunks(data) if name == b"EXIF"), b"")
            case "png":
                block = next((body for name, body in png.chunks(data) if name == b"eXIf"), b"")
            case _:
                return ""
    except (struct.error, IndexError, BadImage):
        return ""
    return exif.comment_in(block.removeprefix(exif.MARK))


def segments(jpeg: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and length of a JPEG's segments before its pixels; raise struct.error or IndexError."""
    return islice(_segments(jpeg), _MOST_SEGMENTS)


def _segments(jpeg: bytes) -> Iterator[tuple[int, int, int]]:
    at = len(_JPEG)
    while filled := _FILL.match(jpeg, at):
        at = filled.end()
        marker = jpeg[at]
        if marker == _SCAN:
            return
        length = 0 if marker in _BARE else struct.unpack_from(">H", jpeg, at + 1)[0]
        yield marker, at + 3, max(length - 2, 0)
        at += 1 + length


def _into_jpeg(jpeg: bytes, block: bytes) -> bytes:
    try:
        _, start, length = next(segments(jpeg))
    except (struct.error, IndexError, StopIteration):
        raise BadImage("the JPEG has no segments") from None
    end = start + length
    return b"".join((jpeg[:end], b"\xff", bytes([_APP1]), struct.pack(">H", len(block) + 2), block, jpeg[end:]))


def _into_webp(webp: bytes, block: bytes) -> bytes:
    try:
        chunks = list(_chunks(webp))
        head = _head(chunks)
    except (struct.error, IndexError):
        raise BadImage("the WebP file is damaged") from None
    kept = [chunk for chunk in chunks if chunk[0] not in (b"VP8X", b"EXIF")]
    body = b"".join(_chunk(*chunk) for chunk in [(b"VP8X", head), *kept, (b"EXIF", block)])
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def _head(chunks: list[tuple[bytes, bytes]]) -> bytes:
    """Return the head of an extended file that holds a comment."""
    name, data = chunks[0]
    if name == b"VP8X":
        return bytes((data[0] | _HAS_EXIF, *data[1:10]))
    if name == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 1)
        width, height, alpha = bits & 0x3FFF, bits >> 14 & 0x3FFF, bits >> 28 & 1
    else:
        width, height = ((side & 0x3FFF) - 1 for side in struct.unpack_from("<HH", data, 6))
        alpha = 0
    flags = _HAS_EXIF | (_HAS_ALPHA if alpha else 0)
    return struct.pack("<I", flags) + struct.pack("<I", width)[:3] + struct.pack("<I", height)[:3]


def _chunks(webp: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield names and contents of a WebP file's chunks; one that is cut off is short."""
    at = 12
    for _ in range(_MOST_CHUNKS):
        if at + 8 > len(webp):
            return
        name, length = struct.unpack_from("<4sI", webp, at)
        yield name, webp[at + 8 : at + 8 + length]
        at += 8 + length + length % 2


def _chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def _in_gif(gif: bytes) -> str:
    at = 13 + _table(gif[10])
    while True:
        match gif[at]:
            case 0x21:
                label, (text, at) = gif[at + 1], _sub_blocks(gif, at + 2)
                if label == 0xFE:
                    return text.decode("utf-8", "ignore")
            case 0x2C:
                _, at = _sub_blocks(gif, at + 11 + _table(gif[at + 9]))
            case _:
                return ""


def _table(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _sub_blocks(gif: bytes, at: int) -> tuple[bytes, int]:
    pieces = []
    while gif[at]:
        pieces.append(gif[at + 1 : at + 1 + gif[at]])
        at += 1 + gif[at]
    return b"".join(pieces), at + 1
