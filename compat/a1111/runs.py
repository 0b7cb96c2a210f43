"""Requests that are several jobs: scripts, and pictures to enlarge; what progress and interrupt know of them.

A run is there from its first job to its last, so that nobody takes the moment between two of them for the end.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from server.core.jobs import JobId


class Run:
    """One such request. `total` and `done` count passes, as `progress` does; `job` is the one that is live."""

    def __init__(self, *, owner: str, tag: str, label: str, total: int) -> None:
        self.owner = owner
        self.tag = tag
        self.label = label
        self.total = total
        self.done = 0
        self.job: JobId | None = None
        self.stopped = False
        self.started = time.monotonic()


class Runs:
    """The runs of a door that have not ended. Owned by the door, used in the event loop's thread."""

    def __init__(self) -> None:
        self._runs: list[Run] = []

    @contextmanager
    def opened(self, *, owner: str, tag: str = "", label: str, total: int) -> Iterator[Run]:
        """Yield a new run, which ends with the context."""
        run = Run(owner=owner, tag=tag, label=label, total=total)
        self._runs.append(run)
        try:
            yield run
        finally:
            self._runs.remove(run)

    def between(self, owner: str) -> Run | None:
        """Return the caller's oldest run that has no live job right now; any caller's where no keys are set."""
        return next((run for run in self._runs if run.job is None and owner in ("", run.owner)), None)

    def stop(self, owner: str, jobs: set[JobId]) -> None:
        """Let no further job begin in the caller's runs whose job was ended, or that are between two jobs."""
        for run in self._runs:
            if owner in ("", run.owner) and (run.job is None or run.job in jobs):
                run.stopped = True
