"""Multipart bodies: texts and files by name, within bounds, parsed in memory by the parser that litestar brings.

Litestar's own `form` writes every file over a megabyte to disk and raises what it did not foresee (an unknown charset).
"""

from collections.abc import Iterator
from itertools import islice

import msgspec
from multipart import (  # type: ignore[import-untyped]
    MultipartError,
    MultipartSegment,
    ParserLimitReached,
    PushMultipartParser,
)

from server.core.errors import InvalidValue

MOST_PARTS = 64
MOST_TEXT = 128 * 1024
_SLICE = 256 * 1024


class Form(msgspec.Struct, frozen=True, kw_only=True):
    """Texts by name (the last of several counts), files by name. `image[]` is the same name as `image`."""

    texts: dict[str, str]
    files: dict[str, tuple[bytes, ...]]


def read_form(body: bytes, boundary: str, files: tuple[str, ...]) -> Form:
    """Return what a body holds; parts with these names are files, whether they have a file name or not.

    Empty texts are left out: forms send them for "not set". May take a while for a large body.

    Raises:
        InvalidValue: it is damaged, has too many parts, or a text that is too long or not UTF-8.
    """
    texts: dict[str, str] = {}
    found: dict[str, tuple[bytes, ...]] = {}
    try:
        for segment, data in _parts(body, boundary):
            name = segment.name.removesuffix("[]")
            if name in files or segment.filename is not None:
                found[name] = (*found.get(name, ()), data)
            else:
                texts[name] = _text(name, data)
    except ParserLimitReached:
        raise InvalidValue(f"The form has more than {MOST_PARTS} parts, or a part's head is too long.") from None
    except MultipartError:
        raise InvalidValue("The request body is not valid multipart/form-data.") from None
    return Form(texts={name: text for name, text in texts.items() if text}, files=found)


def _parts(body: bytes, boundary: str) -> Iterator[tuple[MultipartSegment, bytes]]:
    with PushMultipartParser(boundary.encode("utf-8", "replace"), max_segment_count=MOST_PARTS) as parser:
        segment: MultipartSegment | None = None
        pieces: list[bytes] = []
        for piece in _slices(body):
            if parser.closed:
                break
            for event in parser.parse(piece):
                if isinstance(event, MultipartSegment):
                    segment, pieces = event, []
                elif event is not None:
                    pieces.append(bytes(event))
                elif segment is not None:
                    yield segment, b"".join(pieces)


def _slices(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), _SLICE):
        yield body[start : start + _SLICE]


def _text(name: str, data: bytes) -> str:
    param = "".join(islice((letter for letter in name if letter.isprintable()), 64))
    if len(data) > MOST_TEXT:
        raise InvalidValue.of(param, f"'{param}' is longer than {MOST_TEXT} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise InvalidValue.of(param, f"'{param}' is not valid UTF-8") from None
