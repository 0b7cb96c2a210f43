"""The seam between a worker's loop and an engine: load, submit, step, cancel, close.

Everything here runs in one thread of a child process. `step` does a bounded piece of work (one decode of the batch, one
denoise step) and returns what came out. Errors cross the seam as core errors.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from server.core.errors import Broken, OutOfMemory, ServerError
from server.core.jobs import CancelMode, Event, JobDone, JobEvent, JobFailed, JobId, Outcome, Work
from server.core.models import LoadedFacts, LoadSettings, ModelCard, Runtime

logger = logging.getLogger(__name__)

Report = Callable[[float], None]
"""Told the loaded fraction, 0 ... 1."""


class Engine(Protocol):
    """A loaded model that runs jobs."""

    facts: LoadedFacts

    def submit(self, job: JobId, work: Work) -> None:
        """Take a job. Raise a core error when the request is wrong; the job then never starts."""
        ...

    def step(self) -> list[Outcome]:
        """Advance by one bounded piece of work and return what came out; an empty list is fine.

        An exception says that the engine is lost: the worker ends, and all its jobs with it.
        """
        ...

    def cancel(self, job: JobId, mode: CancelMode) -> None:
        """End a job early; an unknown job is ignored.

        STOP and SKIP still send what is there, ABANDON only `JobDone`.
        """
        ...

    def is_idle(self) -> bool:
        """Tell whether a `step` would do nothing."""
        ...

    def close(self) -> None:
        """Free the model. May be called twice."""
        ...


class Loader(Protocol):
    """Makes an engine out of a card."""

    def load(self, card: ModelCard, settings: LoadSettings, report: Report) -> Engine:
        """Load the model; raise LoadFailed, OutOfMemory or DoesNotFit."""
        ...


@dataclass(frozen=True)
class WarmLoader:
    """A loader of a spare worker that waits for a model of its runtime, and the bytes of RAM held now or soon."""

    runtime: Runtime
    loader: Loader
    held: int


class JobControl:
    """How a running generator learns that its job was asked to end early."""

    def __init__(self) -> None:
        self.mode: CancelMode | None = None

    def ask(self, mode: CancelMode) -> None:
        """Note what was asked; a STOP is not taken back by a later SKIP."""
        if self.mode is not CancelMode.STOP:
            self.mode = mode

    def take_skip(self) -> bool:
        """Return True once for each SKIP that was asked."""
        if self.mode is CancelMode.SKIP:
            self.mode = None
            return True
        return False

    @property
    def stopped(self) -> bool:
        """Tell whether the job shall hand over what is there and end."""
        return self.mode is CancelMode.STOP


class OneAtATime:
    """Turns a generator per job into `submit` and `step`: jobs run one after the other, in order.

    A subclass sets `facts` and writes `run`, which yields events between bounded pieces of work and looks at
    its control.
    """

    facts: LoadedFacts

    def __init__(self) -> None:
        self._waiting: deque[tuple[JobId, Work, JobControl]] = deque()
        self._current: tuple[JobId, Iterator[Event], JobControl] | None = None
        self._ended: list[Outcome] = []

    def run(self, work: Work, control: JobControl) -> Iterator[Event]:
        """Yield the events of one job; raise a core error to fail it. It is closed when nobody wants the rest."""
        raise NotImplementedError

    def check(self, work: Work) -> None:
        """Raise a core error when the request is wrong; asked before the job is queued."""

    def done(self, job: JobId) -> JobDone:
        """Return what is told of a job that has just come to its end."""
        return JobDone(job)

    def submit(self, job: JobId, work: Work) -> None:
        """Queue the job."""
        self.check(work)
        self._waiting.append((job, work, JobControl()))

    def is_idle(self) -> bool:
        """Tell whether nothing waits, runs or is to be reported."""
        return self._current is None and not self._waiting and not self._ended

    def step(self) -> list[Outcome]:
        """Advance the current job to its next event."""
        if self._ended:
            ended, self._ended = self._ended, []
            return ended
        if self._current is None:
            if not self._waiting:
                return []
            job, work, control = self._waiting.popleft()
            self._current = (job, self.run(work, control), control)
        job, events, _ = self._current
        try:
            return [JobEvent(job, next(events))]
        except StopIteration:
            ending: Outcome = self.done(job)
        except ServerError as error:
            ending = JobFailed(job, error.to_data())
        except MemoryError:
            logger.exception("job=%s found no memory", job)
            ending = JobFailed(job, OutOfMemory("there was not enough memory for this job", device="cpu").to_data())
        except Exception:
            logger.exception("job=%s failed", job)
            ending = JobFailed(job, Broken("the engine failed; the server's log has the details").to_data())
        self._current = None
        return [ending]

    def cancel(self, job: JobId, mode: CancelMode) -> None:
        """Close an abandoned generator at once; tell a stopped or skipped one through its control."""
        for entry in self._waiting:
            if entry[0] == job:
                if mode is CancelMode.ABANDON:
                    self._waiting.remove(entry)
                    self._ended.append(JobDone(job))
                else:
                    entry[2].ask(mode)
                return
        if self._current is not None and self._current[0] == job:
            if mode is CancelMode.ABANDON:
                self._drop_current()
                self._ended.append(JobDone(job))
            else:
                self._current[2].ask(mode)

    def close(self) -> None:
        """Forget all jobs."""
        self._waiting.clear()
        self._ended.clear()
        self._drop_current()

    def _drop_current(self) -> None:
        current, self._current = self._current, None
        if current is None:
            return
        job, events, _ = current
        close = getattr(events, "close", None)
        try:
            if close is not None:
                close()
        except Exception:
            logger.exception("job=%s did not clean up", job)
