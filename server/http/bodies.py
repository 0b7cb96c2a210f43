"""How much may come in: body limits by path, silence, and the bytes of all requests together."""

import asyncio
from collections.abc import Mapping

from litestar.exceptions import HTTPException
from litestar.types import Receive

RETRY_AFTER_S = 5
LINGER_S = 5.0


class TooLarge(HTTPException):
    """The body is larger than its path allows."""

    status_code = 413


class TooSlow(HTTPException):
    """The client stopped sending in the middle of the body."""

    status_code = 408


class TooMuchAtOnce(HTTPException):
    """The bodies of all requests together take more than their budget."""

    status_code = 503


class BodyLimits:
    """What may come in on which path, and how many bytes of bodies there are now."""

    def __init__(self, limits: Mapping[str, int], *, otherwise: int, in_flight: int, idle_s: float) -> None:
        self._limits = tuple((prefix, prefix + "/", limit) for prefix, limit in limits.items())
        self._otherwise = otherwise
        self._in_flight = in_flight
        self._held = 0
        self.idle_s = idle_s

    @property
    def held(self) -> int:
        """Return the bytes of bodies of the requests that run now."""
        return self._held

    def limit(self, path: str) -> int:
        """Return the limit of a path in bytes."""
        for prefix, folder, limit in self._limits:
            if path == prefix or path.startswith(folder):
                return limit
        return self._otherwise

    def check_announced(self, length: int, limit: int) -> None:
        """Raise TooLarge or TooMuchAtOnce for a body that cannot come in. Takes nothing yet: it may never come."""
        if length > limit:
            raise too_large(limit)
        self._check_room(length)

    def take(self, count: int) -> None:
        """Count bytes that have arrived; raise TooMuchAtOnce instead when there is no room."""
        self._check_room(count)
        self._held += count

    def give_back(self, count: int) -> None:
        """Take bytes off the count again."""
        self._held -= count

    def _check_room(self, count: int) -> None:
        if self._held + count > self._in_flight:
            text = "the requests that are being answered hold too much memory; try again in a moment"
            raise TooMuchAtOnce(detail=text, headers={"Retry-After": str(RETRY_AFTER_S)})


def too_large(limit: int) -> TooLarge:
    """Return the error that names the limit."""
    return TooLarge(detail=f"the body is larger than {limit} bytes, the limit of this path")


async def drain(receive: Receive, seconds: float = LINGER_S) -> None:
    """Throw the rest of a body away, for a while.

    A client that is still sending reads its answer only if the connection is not reset under it.
    """
    try:
        async with asyncio.timeout(seconds):
            while (message := await receive())["type"] == "http.request" and message.get("more_body"):
                pass
    except TimeoutError:
        pass
