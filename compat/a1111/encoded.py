"""Pictures that clients send as text: base64 with or without a data URL before it. Nothing is fetched here.

A1111 also fetches URLs. Where the configuration allows that, `compat.a1111.addresses` has done it before; what comes
here is refused in A1111's words for that feature switched off, and local addresses in its words for those.
"""

import ipaddress
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from compat.a1111.pnginfo import decoded
from compat.a1111.refusals import Refused
from server.core.errors import InvalidValue
from server.http.pictures import is_address

MOST_BYTES = 48 * 1024 * 1024
"""Of all pictures of one request, decoded from base64: what fits in a message to a worker."""

_LOCAL = ("localhost", ".localhost", ".local", ".internal")


def picture(text: Any) -> bytes:
    """Return the file in a text.

    Raises:
        Refused: it is none, or an address.
    """
    if not isinstance(text, str):
        raise Refused.http("Invalid encoded image")
    if is_address(text):
        check_address(text)
        raise Refused.http("Requests not allowed")
    return decoded(text)


def check_address(url: str) -> None:
    """Raise Refused for an address that is a local one by its looks."""
    if _is_local(url):
        raise Refused.http("Request to local resource not allowed")


def pictures(texts: Sequence[Any], mask: str | None) -> tuple[tuple[bytes, ...], bytes | None]:
    """Return the files of init pictures and of the mask.

    Raises:
        Refused: one is none.
        InvalidValue: together they are too large.
    """
    files = tuple(picture(text) for text in texts)
    marked = None if mask is None else picture(mask)
    if sum(map(len, files)) + len(marked or b"") > MOST_BYTES:
        raise InvalidValue.of("init_images", f"the pictures are more than {MOST_BYTES} bytes together")
    return files, marked


def _is_local(url: str) -> bool:
    try:
        host = (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return False
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return host.endswith(_LOCAL)
