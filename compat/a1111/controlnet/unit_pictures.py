"""The pictures of a unit, in all forms that clients send them in. Nothing is fetched, and no file is read.

| sent | picture | mask |
|---|---|---|
| `"iVBOR..."`, with or without a data URL | it | the field `mask` |
| `{"image": ..., "mask": ...}` | its `image` | its `mask` |
| `[image, mask]` | the first | the second |
| `[{"image": ..., "mask": ...}]` | as the object alone | |
| null, `""`, `[]` | none | the field `mask` |
"""

from typing import Any

from compat.a1111.encoded import picture
from compat.a1111.refusals import Refused
from server.core.errors import Unsupported

Pair = tuple[bytes | None, bytes | None]


def pictures_of(image: Any, mask: Any) -> Pair:
    """Return the files of picture and mask, None where there is none.

    Raises:
        Refused: one is no picture.
        Unsupported: several pictures for one unit.
    """
    if isinstance(image, list) and image and all(isinstance(one, dict) for one in image):
        if len(image) > 1:
            raise Unsupported.of("image", "several pictures for one ControlNet unit are not offered")
        image = image[0]
    if isinstance(image, dict):
        image, mask = image.get("image"), image.get("mask") or mask
    elif isinstance(image, list) and image:
        if len(image) != 2:
            raise Refused.http("Invalid encoded image")
        image, mask = image
    return _file(image), _file(mask)


def _file(text: Any) -> bytes | None:
    return None if text is None or text in ("", []) else picture(text)
