"""The one place where tests look again and again, for what no event tells; everything else waits for events."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

PAUSE_S = 0.01
LIMIT_S = 20.0


def until(condition: Callable[[], T], limit_s: float = LIMIT_S) -> T:
    """Return the first true value of `condition`; fail when there is none within `limit_s` seconds."""
    end = time.monotonic() + limit_s
    while not (value := condition()):
        assert time.monotonic() < end, f"still {value!r} after {limit_s:.0f} s"
        time.sleep(PAUSE_S)
    return value


async def eventually(condition: Callable[[], Awaitable[T]], limit_s: float = LIMIT_S) -> T:
    """Be `until` for a condition that has to be awaited, as an answer over HTTP has."""
    async with asyncio.timeout(limit_s):
        while not (value := await condition()):
            await asyncio.sleep(PAUSE_S)
        return value
