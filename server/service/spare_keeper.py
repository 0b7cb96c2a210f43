"""Keeps a spare worker while nothing goes on: asks for one, starts and ends it, tells the scheduler how it stands."""

import logging
from collections.abc import Callable

from server.core.errors import LoadFailed
from server.core.memory import RAM, readable
from server.core.models import ModelId, Runtime
from server.registry.residents import Residents
from server.service.decisions import SchedulerEvent, SpareGone, SpareReady, SpareStarted, SpareWanted
from server.service.loading import Provision

logger = logging.getLogger(__name__)

Post = Callable[[SchedulerEvent], None]


class SpareKeeper:
    """Carries out what the scheduler decides about the spare. `rest_s`: how long nothing must have gone on before."""

    def __init__(self, residents: Residents, provision: Provision, post: Post, *, rest_s: float) -> None:
        self._residents = residents
        self._provision = provision
        self._post = post
        self._rest_s = rest_s
        self._idle_since: float | None = None

    def look(self, now: float, *, busy: bool, loaded: tuple[ModelId, ...]) -> None:
        """Ask for a spare if nothing has gone on for a while and one would be of use."""
        if busy or self._idle_since is None:
            self._idle_since = None if busy else now
        if self._idle_since is None or now - self._idle_since < self._rest_s or self._residents.spare.pid is not None:
            return
        wish = self._provision.spare(loaded)
        if wish is not None:
            self._post(SpareWanted(runtime=wish.runtime, need=wish.need, room=wish.room, kept=wish.kept))

    async def start(self, number: int, runtime: str, room: int) -> None:
        """Start the spare of this number, with so many bytes ready; tell when it is there, ready, and has died."""
        try:
            worker = await self._residents.spare.start(lambda _: self._post(SpareGone(number=number, died=True)))
        except LoadFailed as error:
            logger.warning("no spare worker: %s", error)
            self._post(SpareGone(number=number, died=True))
            return
        self._post(SpareStarted(number))
        try:
            held = await worker.warm(Runtime(runtime), room)
        except LoadFailed:
            return  # its death has been told
        logger.info("the spare worker is ready: runtime=%s pid=%d room=%s", runtime, worker.pid, readable(room))
        self._post(SpareReady(number=number, held={RAM: held}))

    async def end(self, number: int) -> None:
        """End the spare of this number and tell when its memory is back."""
        await self._residents.spare.leave()
        self._post(SpareGone(number=number))
