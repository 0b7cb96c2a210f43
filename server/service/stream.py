"""A job's events on their way to the one who asked: an async iterator whose closing abandons the job."""

import asyncio
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self

from server.core.errors import ServerError
from server.core.image import Preview
from server.core.jobs import CancelMode, Event, JobId, Loading, Waiting

Cancel = Callable[[JobId, CancelMode], object]


class JobStream:
    """Events of one job for one reader, in order.

    The hall pushes with `push`, `finish` and `fail`; the reader iterates, and closes when it leaves. Closing before the
    end abandons the job. What a slow reader leaves unread is bounded by what a job can produce (a context of text, a
    job's pictures), so the hall never waits for it; of unread previews only the newest is kept.
    """

    def __init__(self, job: JobId, cancel: Cancel) -> None:
        self.job = job
        self._cancel = cancel
        self._events: deque[Event] = deque()
        self._arrived = asyncio.Event()
        self._began = False
        self._ended = False
        self._error: ServerError | None = None

    def push(self, event: Event) -> None:
        """Add an event; ignored after the end."""
        if self._ended:
            return
        if isinstance(event, Preview):
            self._drop_preview()
        self._events.append(event)
        if not isinstance(event, Waiting | Loading):
            self._began = True
        self._arrived.set()

    def _drop_preview(self) -> None:
        for old in self._events:
            if isinstance(old, Preview):
                self._events.remove(old)
                return

    def finish(self) -> None:
        """End the stream well."""
        self._ended = True
        self._arrived.set()

    def fail(self, error: ServerError) -> None:
        """End the stream with an error, which the reader gets after the events before it."""
        if not self._ended:
            self._error = error
            self.finish()

    async def started(self) -> None:
        """Wait until the engine has accepted the job.

        Raises:
            ServerError: the job ended with this error before its first event.
        """
        while not self._began and not self._ended:
            self._arrived.clear()
            await self._arrived.wait()
        if not self._began and self._error is not None:
            raise self._error

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while not self._events:
            if self._ended:
                if self._error is not None:
                    raise self._error
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        return self._events.popleft()

    def cancel(self, mode: CancelMode) -> None:
        """Ask the job to end early; with STOP and SKIP what is there still comes."""
        if not self._ended:
            self._cancel(self.job, mode)

    async def aclose(self) -> None:
        """Leave: a job that still runs is abandoned."""
        if not self._ended:
            self._cancel(self.job, CancelMode.ABANDON)
            self.finish()
        self._events.clear()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
