r"""The two entries of a TIFF block that doors read and write: a picture's orientation, and what its maker says of it.

Layouts after TIFF 6.0 (section 2) and EXIF 2.3 (4.6.5: UserComment). A comment begins with eight bytes that name its
letters; it is written as `UNICODE\0` and UTF-16, big end first, which is what A1111 writes and reads.
"""

import struct
from collections.abc import Iterator

MARK = b"Exif\0\0"
"""Stands before the block in a JPEG file."""

MOST_COMMENT = 65_535 - 2 - len(MARK) - 44 - 8
"""Bytes of a comment's letters: a JPEG segment has 65,535 for its length, the mark, the block's head and them."""

_IN_WORDS = {b"II": "<", b"MM": ">"}
_MOST_ENTRIES = 512
_ORIENTATION, _EXIF, _COMMENT = 0x0112, 0x8769, 0x9286
_UNICODE, _ASCII, _UNSAID = b"UNICODE\0", b"ASCII\0\0\0", b"\0" * 8
_LONG, _UNDEFINED = 4, 7


def block(comment: str) -> bytes:
    """Return a block that holds a comment, cut where it is too long."""
    letters = _utf16(comment)[:MOST_COMMENT]
    if len(letters) == MOST_COMMENT:
        letters = letters.decode("utf-16-be", "ignore").encode("utf-16-be")
    data = _UNICODE + letters
    main = struct.pack(">HHHIII", 1, _EXIF, _LONG, 1, 26, 0)
    exif = struct.pack(">HHHIII", 1, _COMMENT, _UNDEFINED, len(data), 44, 0)
    return b"MM\0*" + struct.pack(">I", 8) + main + exif + data


def comment_in(tiff: bytes) -> str:
    """Return a block's comment, empty when there is none; letters that nobody names count as UTF-8."""
    try:
        start = next((value for tag, _, value in _entries(tiff) if tag == _EXIF), None)
        found = None if start is None else next((e for e in _entries(tiff, start) if e[0] == _COMMENT), None)
    except struct.error:
        return ""
    if found is None:
        return ""
    _, count, start = found
    data = tiff[start : start + count]
    mark, letters = data[:8], data[8:]
    if mark == _UNICODE:
        return letters.decode("utf-16-be", "ignore").rstrip("\0")
    return (letters if mark in (_ASCII, _UNSAID) else data).decode("utf-8", "ignore").strip("\0")


def orientation_in(tiff: bytes) -> int:
    """Return the orientation, 1 (upright) when the block tells none."""
    order = _IN_WORDS.get(tiff[:2], ">")
    try:
        for tag, _, value in _entries(tiff):
            if tag == _ORIENTATION:
                short: tuple[int] = struct.unpack_from(order + "H", struct.pack(order + "I", value))
                return short[0]
    except struct.error:
        pass
    return 1


def _entries(tiff: bytes, start: int | None = None) -> Iterator[tuple[int, int, int]]:
    """Yield tag, count and value (or where it stands) of a directory, the first by default; raise struct.error."""
    order = _IN_WORDS.get(tiff[:2])
    if order is None:
        return
    if start is None:
        (start,) = struct.unpack_from(order + "I", tiff, 4)
    (count,) = struct.unpack_from(order + "H", tiff, start)
    for entry in range(min(count, _MOST_ENTRIES)):
        tag, _, items, value = struct.unpack_from(order + "HHII", tiff, start + 2 + 12 * entry)
        yield tag, items, value


def _utf16(text: str) -> bytes:
    return text.encode("utf-16-be", "replace")  # a lone surrogate has no code of its own
