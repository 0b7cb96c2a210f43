"""What a picture file says of itself in its first bytes: format, size, which side is up. Pixels are never decoded.

Layouts after the PNG specification, JPEG (ITU T.81 B.2, EXIF 2.3 for the orientation), the WebP container, GIF89a and
the BMP headers. The engine reads the same formats and no others.
"""

import struct
from collections.abc import Callable, Iterator

import msgspec

from compat.openai.images.opaque import is_opaque
from server.core.errors import BadImage
from server.http import exif
from server.http.picture_files import segments
from server.http.png import SIGNATURE

MOST_PIXELS = 64 * 1024 * 1024
LONGEST_SIDE = 65_535
FORMATS = "PNG, JPEG, WebP, GIF, BMP"

_RGBA = 6
_TURNED = (5, 6, 7, 8)
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """Pixels as they are shown, after turning. `rgba`: a PNG with red, green, blue and alpha in every pixel."""

    width: int
    height: int
    rgba: bool = False


def look(data: bytes, param: str) -> Look:
    """Return what a file says of itself; raise BadImage when it is no such picture, or too large."""
    for starts, read in _READERS:
        if data.startswith(starts):
            try:
                seen = read(data)
            except (struct.error, IndexError):
                break
            if max(seen.width, seen.height) > LONGEST_SIDE or seen.width * seen.height > MOST_PIXELS:
                text = f"'{param}' has more than {MOST_PIXELS} pixels, or a side longer than {LONGEST_SIDE}"
                raise BadImage(text, param=param)
            if seen.width > 0 and seen.height > 0:
                return seen
            break
    text = f"'{param}' is not a picture that can be read; known formats are {FORMATS}"
    raise BadImage(text, param=param)


def has_transparency(data: bytes) -> bool:
    """Tell whether a file that `look` calls RGBA has a pixel that is not opaque; may take a while.

    Interlaced ones, which hardly anybody makes, are taken to have.
    """
    width, height, depth, interlaced = struct.unpack_from(">IIB3xB", data, 16)
    return bool(interlaced) or not is_opaque(_pixels(data), width, height, depth=depth)


def _pixels(png: bytes) -> Iterator[bytes]:
    start = len(SIGNATURE)
    while start + 8 <= len(png):
        length, kind = struct.unpack_from(">I4s", png, start)
        if kind == b"IDAT":
            yield png[start + 8 : start + 8 + length]
        start += 12 + length


def _png(data: bytes) -> Look:
    width, height, depth, colours = struct.unpack_from(">IIBB", data, 16)
    return Look(width=width, height=height, rgba=colours == _RGBA and depth in (8, 16))


def _gif(data: bytes) -> Look:
    width, height = struct.unpack_from("<HH", data, 6)
    return Look(width=width, height=height)


def _bmp(data: bytes) -> Look:
    (header,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if header == 12 else "<ii", data, 18)
    return Look(width=abs(width), height=abs(height))


def _webp(data: bytes) -> Look:
    kind = data[12:16]
    if data[8:12] != b"WEBP":
        raise IndexError
    if kind == b"VP8X":
        width = int.from_bytes(data[24:27], "little") + 1
        height = int.from_bytes(data[27:30], "little") + 1
    elif kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    return Look(width=width, height=height)


def _jpeg(data: bytes) -> Look:
    turned = False
    for marker, start, length in segments(data):
        if marker == 0xE1 and data.startswith(exif.MARK, start):
            turned = exif.orientation_in(data[start + len(exif.MARK) : start + length]) in _TURNED
        if marker in _FRAMES:
            height, width = struct.unpack_from(">HH", data, start + 1)
            return Look(width=height, height=width) if turned else Look(width=width, height=height)
    raise IndexError


_READERS: tuple[tuple[bytes, Callable[[bytes], Look]], ...] = (
    (SIGNATURE, _png),
    (b"\xff\xd8\xff", _jpeg),
    (b"RIFF", _webp),
    (b"GIF87a", _gif),
    (b"GIF89a", _gif),
    (b"BM", _bmp),
)
