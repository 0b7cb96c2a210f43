"""The spare worker: a process that has imported an engine's libraries and waits for a model. At most one.

A worker of pictures spends seconds on imports; with a spare they lie before the request. Whether there is memory for
one, who takes it and when it has to go is the hall's business.
"""

import logging
from collections.abc import Callable
from functools import partial

import msgspec

from server.core.jobs import Outcome
from server.core.memory import PoolId
from server.core.models import Runtime
from server.workers.supervisor import Worker

logger = logging.getLogger(__name__)

NAME = "spare"


class SpareWish(msgspec.Struct, frozen=True, kw_only=True):
    """A spare that would be of use: for which runtime, and what it is expected to hold.

    `room` are bytes of RAM that it could have ready for weights besides, if `kept` then stays free for jobs.
    """

    runtime: Runtime
    need: dict[PoolId, int]
    room: int = 0
    kept: dict[PoolId, int] = {}


OnEnd = Callable[[str], None]
"""Told how a spare ended that nobody had asked to."""


class SparePlace:
    """Owns the spare until a model takes it."""

    def __init__(self) -> None:
        self._worker: Worker | None = None

    @property
    def pid(self) -> int | None:
        """Return the spare's process id, None while there is none."""
        return self._worker.pid if self._worker is not None else None

    async def start(self, on_end: OnEnd) -> Worker:
        """Start a spare, which another one must not be there for; have its `warm` called next.

        Raises:
            LoadFailed: no process could be started.
        """
        worker = await Worker.spawn(NAME, on_outcomes=_unheard)
        self._worker = worker
        worker.when_gone(partial(self._gone, worker, on_end))
        return worker

    def take(self) -> Worker | None:
        """Return the spare for good, if it lives. It may still be warming up."""
        worker = self._worker
        if worker is None or not worker.alive:
            return None
        self._worker = None
        return worker

    async def leave(self) -> None:
        """End the spare, which has nothing to lose; return when its memory is back."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.kill()
            await worker.stop()

    def _gone(self, worker: Worker, on_end: OnEnd, how: str) -> None:
        if worker is self._worker:
            self._worker = None
            logger.warning("the spare worker ended: %s; last lines: %s", how, worker.tail()[-5:])
            on_end(how)


def _unheard(_: list[Outcome]) -> None:
    """Hear nothing: a spare runs no jobs."""
