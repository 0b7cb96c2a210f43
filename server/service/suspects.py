"""Requests that end their worker: one that has ended two is refused for a while. Pure; time is an argument.

Only deaths that a request can cause count: SIGKILL and SIGTERM come from outside.
"""

import hashlib

import msgspec

from server.core.errors import InvalidValue
from server.core.jobs import Work

REFUSED_FOR_S = 600.0
MOST = 64
_FROM_OUTSIDE = ("SIGKILL", "SIGTERM")


class Suspects:
    """Remembers what was asked by its digest, and no text of it."""

    def __init__(self) -> None:
        self._until: dict[bytes, float] = {}

    def convict(self, work: Work, how: str, now: float) -> None:
        """Note that work was alone on the second worker that ended under it; `how` is the way in which that one did."""
        digest = None if how.endswith(_FROM_OUTSIDE) else _digest(work)
        if digest is None:
            return
        self._until.pop(digest, None)
        while len(self._until) >= MOST:
            del self._until[next(iter(self._until))]
        self._until[digest] = now + REFUSED_FOR_S

    def check(self, work: Work, now: float) -> None:
        """Raise InvalidValue for work that was convicted less than ten minutes ago."""
        if not self._until:
            return
        until = self._until.get(_digest(work) or b"", 0.0)
        if now < until:
            minutes = max(1, round((until - now) / 60))
            raise InvalidValue(
                f"the worker ended unexpectedly both times when this request was tried; it is refused for {minutes} min"
            )


def _digest(work: Work) -> bytes | None:
    try:
        return hashlib.blake2b(msgspec.msgpack.encode(work), digest_size=16).digest()
    except (msgspec.MsgspecError, ValueError, OverflowError):
        return None  # what cannot travel never reaches a worker
