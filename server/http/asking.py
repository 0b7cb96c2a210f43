"""From a door's work to its events: submit it, wait for the engine, and let go of the job in any case."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from litestar import Request

from server.core.jobs import Work
from server.http.auth import owner_of
from server.http.disconnect import unless_disconnected
from server.service.service import JobStream, Service

T = TypeVar("T")


async def opened(
    service: Service, work: Work, request: Request[Any, Any, Any], *, patience_s: float
) -> tuple[JobStream, bool]:
    """Return the job's stream, and whether the engine has accepted the job within `patience_s`.

    The caller closes the stream.

    Raises:
        ServerError: the work was refused before that.
        ClientLeft: nobody waits any more.
    """
    stream = service.submit(work, owner=owner_of(request))
    try:
        accepted = await unless_disconnected(request, _accepted(stream, patience_s))
    except BaseException:
        await stream.aclose()
        raise
    return stream, accepted


async def gathered(
    service: Service,
    work: Work,
    request: Request[Any, Any, Any],
    collect: Callable[[JobStream], Coroutine[Any, Any, T]],
) -> T:
    """Return what `collect` makes of all events of a job; raises as `opened`, and what ends the job later too."""
    stream = service.submit(work, owner=owner_of(request))
    try:
        return await unless_disconnected(request, collect(stream))
    finally:
        await stream.aclose()


async def _accepted(stream: JobStream, patience_s: float) -> bool:
    try:
        async with asyncio.timeout(patience_s):
            await stream.started()
    except TimeoutError:
        return False
    return True
