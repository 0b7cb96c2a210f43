"""Pictures in requests for text: base64 and data URLs become parts of messages. Pure; what files hold is not read."""

import base64
import binascii
import re
from collections.abc import Sequence

from server.core.errors import InvalidValue, Unsupported
from server.core.text import MOST_PICTURES, Message, PicturePart

MOST_BYTES = 48 * 1024 * 1024
"""Of all pictures of one request: what fits in a message to a worker."""

NOT_FETCHED = "pictures are not fetched by this server; send a data URL, or set [openai] fetch_images = true"

_DATA_URL = re.compile(r"data:(?P<type>[^,;]{0,128})(?:;[^,;]{0,128})*?;base64,", re.ASCII | re.IGNORECASE)
_BLANKS = re.compile(r"\s+", re.ASCII)


def is_address(url: str) -> bool:
    """Tell whether a URL names something on the network."""
    return url[:8].casefold().startswith(("http://", "https://"))


def picture_at(url: str, param: str) -> PicturePart:
    """Return the picture in a data URL.

    Raises:
        InvalidValue: it is none, or not of a picture.
        Unsupported: it is an address: those are fetched before, if at all.
    """
    if is_address(url):
        raise Unsupported.of(param, f"'{param}': {NOT_FETCHED}")
    head = _DATA_URL.match(url)
    if head is None:
        raise InvalidValue.of(param, f"'{param}' must be a data URL with base64: data:image/png;base64,...")
    kind = head["type"].casefold()
    if kind and not kind.startswith("image/") and kind != "application/octet-stream":
        raise InvalidValue.of(param, f"'{param}' must hold a picture, not {kind[:64]!r}")
    return picture_in(url[head.end() :], param)


def picture_in(text: str, param: str) -> PicturePart:
    """Return the picture in a text of base64; raise InvalidValue when it is none."""
    try:
        data = base64.b64decode(_BLANKS.sub("", text), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidValue.of(param, f"'{param}' is not valid base64") from None
    if not data:
        raise InvalidValue.of(param, f"'{param}' is empty")
    return PicturePart(data, param)


def data_url(data: bytes) -> str:
    """Return a file as a data URL."""
    return f"data:application/octet-stream;base64,{base64.b64encode(data).decode('ascii')}"


def check_pictures(messages: Sequence[Message]) -> None:
    """Raise InvalidValue when there are too many pictures or too large ones together, naming the first one over."""
    total = 0
    pictures = [part for message in messages for part in message.parts if isinstance(part, PicturePart)]
    for number, picture in enumerate(pictures):
        total += len(picture.data)
        if number >= MOST_PICTURES:
            text = f"a request can have {MOST_PICTURES} pictures, not {len(pictures)}"
            raise InvalidValue.of(picture.param, text)
        if total > MOST_BYTES:
            text = f"the pictures of a request can have {MOST_BYTES // 2**20} MiB together"
            raise InvalidValue.of(picture.param, text)
