"""A finished answer as a value: what a dialect makes of an error, whoever sends it.

The router's exception handlers send it as a litestar response; the gate, which stands before any routing, as raw ASGI.
"""

from collections.abc import Callable
from typing import Any

import msgspec
from litestar import Response

NO_CONTENT = 204


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """Status, body and headers of an answer."""

    status: int
    body: bytes
    headers: dict[str, str] = {}
    media_type: str = "application/json"


ReplyTo = Callable[[str, Exception], Reply]
"""Turns (request path, what went wrong) into an answer in the words of the door that the path belongs to."""


def to_response(reply: Reply) -> Response[bytes]:
    """Return the reply for litestar to send."""
    return Response(content=reply.body, status_code=reply.status, headers=reply.headers, media_type=reply.media_type)


async def send_reply(reply: Reply, send: Any) -> None:
    """Send the reply over a bare ASGI `send`."""
    headers = dict(reply.headers)
    if reply.status != NO_CONTENT:  # which has neither type nor length
        headers = {"content-type": reply.media_type, "content-length": str(len(reply.body)), **headers}
    pairs = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": reply.status, "headers": pairs})
    await send({"type": "http.response.body", "body": reply.body})
