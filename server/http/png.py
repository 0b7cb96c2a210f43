"""Text chunks of finished PNG bytes, put in and read without touching the pixels.

Layout after the PNG specification (third edition, sections 5 and 11.3.3). As Pillow does, text that Latin-1 can hold
goes out as tEXt and other text as uncompressed iTXt in UTF-8.
"""

import re
import zlib
from collections.abc import Iterator, Mapping

import msgspec

from server.core.errors import BadImage

SIGNATURE = b"\x89PNG\r\n\x1a\n"
TEXT_LIMIT = 1024 * 1024
TOTAL_LIMIT = 8 * 1024 * 1024
_TEXT_KINDS = (b"tEXt", b"zTXt", b"iTXt")
_KEYWORD = re.compile(r"[!-~\xa1-\xff]([ -~\xa1-\xff]{0,77}[!-~\xa1-\xff])?")


class _Chunk(msgspec.Struct, frozen=True):
    """Where a chunk stands: `start` and `end` include length and checksum."""

    kind: bytes
    start: int
    end: int
    data: memoryview


def add_text(png: bytes, texts: Mapping[str, str]) -> bytes:
    """Return the PNG with these texts before its first IDAT, in place of older ones with the same keyword.

    NUL, which no text chunk can hold, is left out of the text.

    Raises:
        BadImage: not a PNG.
        ValueError: a keyword that is not 1 to 79 printable Latin-1 characters without spaces at the ends.
    """
    kept: list[bytes | memoryview] = [SIGNATURE]
    view = memoryview(png)
    wanted = {_keyword(name) for name in texts}
    written = False
    for chunk in _chunks(png):
        if chunk.kind == b"IDAT" and not written:
            kept.extend(_text_chunk(name, text) for name, text in texts.items())
            written = True
        if chunk.kind in _TEXT_KINDS and bytes(chunk.data).split(b"\0", 1)[0] in wanted:
            continue
        kept.append(view[chunk.start : chunk.end])
    if not written:
        raise BadImage("the PNG has no image data")
    return b"".join(kept)


def read_text(png: bytes) -> dict[str, str]:
    """Return the texts of a PNG by keyword; the first of several with one keyword counts.

    Raises:
        BadImage: not a PNG, cut off, or a text larger than 1 MiB (8 MiB together) when unpacked.
    """
    texts: dict[str, str] = {}
    left = TOTAL_LIMIT
    for chunk in _chunks(png):
        if chunk.kind not in _TEXT_KINDS:
            continue
        if len(chunk.data) > TEXT_LIMIT + 1024:
            raise BadImage("a text chunk of the PNG is larger than 1 MiB")
        found = _READERS[chunk.kind](bytes(chunk.data))
        if found is not None:
            keyword, text = found
            left -= len(text)
            texts.setdefault(keyword, text)
        if left < 0:
            raise BadImage("the text chunks of the PNG are larger than 8 MiB together")
    return texts


def chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield names and contents of a PNG's chunks but its pixels; raise BadImage when it is none or cut off."""
    return ((chunk.kind, bytes(chunk.data)) for chunk in _chunks(png) if chunk.kind != b"IDAT")


def _chunks(png: bytes) -> Iterator[_Chunk]:
    if png[:8] != SIGNATURE:
        raise BadImage("the image is not a PNG")
    view, start = memoryview(png), 8
    while start < len(png):
        length = int.from_bytes(view[start : start + 4])
        end = start + 12 + length
        if end > len(png):
            raise BadImage("the PNG is cut off")
        kind = bytes(view[start + 4 : start + 8])
        yield _Chunk(kind, start, end, view[start + 8 : end - 4])
        if kind == b"IEND":
            return
        start = end
    raise BadImage("the PNG is cut off")


def _keyword(name: str) -> bytes:
    if not _KEYWORD.fullmatch(name) or "  " in name:
        raise ValueError(f"{name!r} cannot be a keyword of a PNG text")
    return name.encode("latin-1")


def _text_chunk(name: str, text: str) -> bytes:
    text = text.replace("\0", "")
    try:
        kind, data = b"tEXt", _keyword(name) + b"\0" + text.encode("latin-1")
    except UnicodeEncodeError:
        # keyword, not compressed, method 0, no language, no translated keyword
        utf8 = text.encode("utf-8", "replace")  # a lone surrogate has no UTF-8
        kind, data = b"iTXt", _keyword(name) + b"\0\0\0\0\0" + utf8
    checksum = zlib.crc32(data, zlib.crc32(kind))
    return len(data).to_bytes(4) + kind + data + checksum.to_bytes(4)


def _inflate(data: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        text = unpacker.decompress(data, TEXT_LIMIT + 1)
    except zlib.error:
        raise BadImage("a compressed text of the PNG is damaged") from None
    if len(text) > TEXT_LIMIT:
        raise BadImage("a text chunk of the PNG is larger than 1 MiB")
    return text


def _read_plain(data: bytes) -> tuple[str, str] | None:
    keyword, _, text = data.partition(b"\0")
    return keyword.decode("latin-1"), text.decode("latin-1")


def _read_packed(data: bytes) -> tuple[str, str] | None:
    keyword, _, rest = data.partition(b"\0")
    if rest[:1] != b"\0":
        return None  # the only method that exists is 0
    return keyword.decode("latin-1"), _inflate(rest[1:]).decode("latin-1")


def _read_international(data: bytes) -> tuple[str, str] | None:
    keyword, _, rest = data.partition(b"\0")
    parts = rest[2:].split(b"\0", 2)
    if len(parts) < 3 or (rest[0] and rest[1]):
        return None
    text = _inflate(parts[2]) if rest[0] else parts[2]
    return keyword.decode("latin-1"), text.decode("utf-8", "replace")


_READERS = {b"tEXt": _read_plain, b"zTXt": _read_packed, b"iTXt": _read_international}


def size_of(png: bytes) -> tuple[int, int]:
    """Return width and height as the header says; raise BadImage when it is no PNG."""
    if png[:8] != SIGNATURE or png[12:16] != b"IHDR":
        raise BadImage("the image is not a PNG")
    return int.from_bytes(png[16:20]), int.from_bytes(png[20:24])
