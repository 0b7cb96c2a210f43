"""The pictures of a unit, in all forms that clients send them in. Nothing is fetched, and no file is read.

| sent | picture | mask |
|---|---|---|
| `"iVBOR..."`, with or without a data URL | it | the field `mask` |
| `{"image": ..., "mask": ...}` | its `image` | its `mask` |
| `[image, mask]` | the first | the second |
| `[{"image": ..., "mask": ...}]` | as the object alone | |
| `[{"image": ...}, {"image": ...}]` | the first, and the others besides | the first's |
| null, `""`, `[]` | none | the field `mask` |
"""

from typing import Any

import msgspec

from compat.a1111.encoded import picture
from compat.a1111.refusals import Refused
from server.core.errors import InvalidValue

MOST_PICTURES = 32
"""Of one unit."""


class UnitPictures(msgspec.Struct, frozen=True, kw_only=True):
    """The files of a unit, None where there is none; `more` are further pictures."""

    image: bytes | None = None
    mask: bytes | None = None
    more: tuple[bytes, ...] = ()


def pictures_of(image: Any, mask: Any) -> UnitPictures:
    """Return the files of a unit.

    Raises:
        Refused: one is no picture.
        InvalidValue: they are too many.
    """
    others: list[dict[str, Any]] = []
    if isinstance(image, list) and image and all(isinstance(one, dict) for one in image):
        image, *others = image
        if len(others) >= MOST_PICTURES:
            raise InvalidValue.of("image", f"a ControlNet unit has {MOST_PICTURES} pictures at most")
    more = tuple(file for file in (_file(one.get("image")) for one in others) if file is not None)
    if isinstance(image, dict):
        image, mask = image.get("image"), image.get("mask") or mask
    elif isinstance(image, list) and image:
        if len(image) != 2:
            raise Refused.http("Invalid encoded image")
        image, mask = image
    return UnitPictures(image=_file(image), mask=_file(mask), more=more)


def _file(text: Any) -> bytes | None:
    return None if text is None or text in ("", []) else picture(text)
