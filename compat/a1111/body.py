"""How a request's body reaches a handler: read leniently, then converted by the framework as its annotation says."""

import asyncio
from typing import Any, ClassVar

import msgspec
from litestar import Request

from compat.a1111 import lenient

LARGE = 1024 * 1024
"""Bytes from which a body is read in a thread."""


class LenientRequest(Request[Any, Any, Any]):
    """A request whose JSON is read as A1111 reads it. `wanted` None means an object with any content.

    `sent` are the fields that the client sent and that are known, once the body has been read.
    """

    wanted: ClassVar[type[msgspec.Struct] | None] = None
    sent: frozenset[str] = frozenset()

    async def json(self) -> Any:
        """Return the object in the body; raise Unreadable."""
        body = await self.body()
        if len(body) > LARGE:
            found = await asyncio.to_thread(lenient.read, body, self.wanted)
        else:
            found = lenient.read(body, self.wanted)
        self.sent = frozenset(found)
        return found

    async def body(self) -> bytes:
        """Return the body; where there is none, white space, so that reading says what is missing."""
        return await super().body() or b" "


def sent_in(request: Request[Any, Any, Any]) -> frozenset[str]:
    """Return the fields that the client sent."""
    return request.sent if isinstance(request, LenientRequest) else frozenset()


def reading(wire: type[msgspec.Struct]) -> type[LenientRequest]:
    """Return the request class whose body is that struct."""
    return type(f"{wire.__name__}Request", (LenientRequest,), {"wanted": wire})
