"""How a request's body reaches a handler: read leniently, then converted by the framework as its annotation says."""

import asyncio
from typing import Any, ClassVar

import msgspec
from litestar import Request

from compat.a1111 import lenient

LARGE = 1024 * 1024
"""Bytes from which a body is read in a thread."""


class LenientRequest(Request[Any, Any, Any]):
    """A request whose JSON is read as A1111 reads it. `wanted` None means an object with any content."""

    wanted: ClassVar[type[msgspec.Struct] | None] = None

    async def json(self) -> Any:
        """Return the object in the body; raise Unreadable."""
        body = await self.body()
        if len(body) > LARGE:
            return await asyncio.to_thread(lenient.read, body, self.wanted)
        return lenient.read(body, self.wanted)

    async def body(self) -> bytes:
        """Return the body; where there is none, white space, so that reading says what is missing."""
        return await super().body() or b" "


def reading(wire: type[msgspec.Struct]) -> type[LenientRequest]:
    """Return the request class whose body is that struct."""
    return type(f"{wire.__name__}Request", (LenientRequest,), {"wanted": wire})
