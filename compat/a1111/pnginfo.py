"""What a picture says about itself: `POST png-info`. Reads PNG texts, EXIF and GIF comments; no pixels are decoded."""

import base64
import binascii
import re
from collections.abc import Iterable

from compat.a1111 import infotext, wire
from compat.a1111.refusals import Refused
from compat.a1111.styles import Style
from server.core.errors import BadImage
from server.http.picture_files import comment_of
from server.http.png import SIGNATURE, read_text

_DATA_URL = re.compile(r"data:image/[^;,]{1,64};base64,")
_OTHERS = (b"\xff\xd8\xff", b"RIFF", b"GIF8", b"BM", b"II*\0", b"MM\0*")
_NOT_SHOWN = frozenset(
    {
        "parameters",
        "jfif",
        "jfif_version",
        "jfif_unit",
        "jfif_density",
        "dpi",
        "exif",
        "loop",
        "background",
        "timestamp",
        "duration",
        "progressive",
        "progression",
        "icc_profile",
        "chromaticity",
        "photoshop",
    }
)


def describe(image: str, styles: Iterable[Style]) -> wire.PngInfoAnswer:
    """Return the infotext of a base64 picture, its other texts, and the infotext's fields.

    Raises:
        Refused: it is no picture.
    """
    data = decoded(image)
    try:
        texts = read_text(data) if data.startswith(SIGNATURE) else {}
    except BadImage:
        raise Refused.http("Invalid encoded image") from None
    text = comment_of(data) or texts.get("parameters", "")
    items = {key: value for key, value in texts.items() if key not in _NOT_SHOWN}
    return wire.PngInfoAnswer(info=text, items=items, parameters=infotext.read(text, styles))


def decoded(image: str) -> bytes:
    """Return the bytes of base64 text with or without a data URL before it; foreign characters are passed over."""
    match = _DATA_URL.match(image)
    try:
        data = base64.b64decode(image[match.end() :] if match else image)
    except (binascii.Error, ValueError):
        data = b""
    if not data.startswith((SIGNATURE, *_OTHERS)):
        raise Refused.http("Invalid encoded image")
    return data
