"""Leaving is noticed: work for a plain (not streamed) answer ends when the client hangs up."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from litestar import Request

from server.http.reply import Reply

T = TypeVar("T")

LEFT = Reply(status=499, body=b"", media_type="text/plain")
"""What a router answers to `ClientLeft`; nobody reads it, but logs and tests see how the request ended."""


class ClientLeft(Exception):
    """The client closed the connection before its answer was ready; the work has been cancelled."""


async def unless_disconnected(request: Request[Any, Any, Any], work: Coroutine[Any, Any, T]) -> T:
    """Return the result of `work`; cancel it when the client leaves first.

    The request's body must have been read: what is still to come of it would be thrown away. Returns or raises only
    when the work has really ended, cancelled or not. A result that is ready at the moment of leaving still counts.

    Raises:
        ClientLeft: the client closed the connection.
        Exception: whatever `work` raises.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        await _ended(working)
        raise ClientLeft
    finally:
        await _ended(leaving)
        await _ended(working)


async def _disconnected(request: Request[Any, Any, Any]) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _ended(task: asyncio.Future[Any]) -> None:
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()  # seen; otherwise the loop complains that nobody fetched it
