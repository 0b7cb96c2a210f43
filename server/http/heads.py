"""What the gate reads in the head of a request, and how a head is malformed. Pure."""

from collections.abc import Iterable

from litestar.exceptions import HTTPException

MAX_HEADER_BYTES = 64 * 1024
MAX_HEADER_FIELDS = 100

_HEEDED = frozenset(
    (
        b"host",
        b"origin",
        b"sec-fetch-site",
        b"sec-fetch-mode",
        b"content-length",
        b"transfer-encoding",
        b"content-encoding",
        b"expect",
        b"x-request-id",
        b"access-control-request-headers",
        b"access-control-request-method",
        b"access-control-request-private-network",
    )
)
_ONCE = frozenset((b"host", b"origin", b"content-length"))

Head = dict[bytes, bytes]
"""The heeded headers of a request."""


class Refused(HTTPException):
    """The request does not pass the gate. `closes`: what follows on its connection cannot be trusted."""

    def __init__(self, status: int, detail: str, *, closes: bool = False) -> None:
        super().__init__(detail=detail, status_code=status)
        self.closes = closes


def read_head(fields: Iterable[tuple[bytes, bytes]], head: Head) -> None:
    """Fill `head` with the heeded ones of a request's header fields (their names in lower case, as ASGI has them).

    Raises:
        Refused: 431 for more than 100 fields or 64 KiB, 400 for a field that must not be repeated.
    """
    size = count = 0
    for name, value in fields:
        count += 1
        size += len(name) + len(value)
        if name in _HEEDED:
            if name in head and name in _ONCE:
                raise Refused(400, f"more than one {name.decode()} header", closes=True)
            head[name] = value
    if count > MAX_HEADER_FIELDS or size > MAX_HEADER_BYTES:
        text = f"more than {MAX_HEADER_FIELDS} header fields or {MAX_HEADER_BYTES} bytes of them"
        raise Refused(431, text, closes=True)


def announced_length(head: Head) -> int | None:
    """Return how long the body will be, None for a chunked one, 0 for none.

    Raises:
        Refused: 400 for both kinds of length at once (two readers would see two different requests), or no number.
    """
    length = head.get(b"content-length")
    if b"transfer-encoding" in head:
        if length is not None:
            raise Refused(400, "both Content-Length and Transfer-Encoding", closes=True)
        return None
    if length is None:
        return 0
    if not length.isdigit() or len(length) > 18:
        raise Refused(400, "Content-Length is not a number of bytes", closes=True)
    return int(length)
