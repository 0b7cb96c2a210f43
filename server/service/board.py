"""What is going on: live jobs and a short history, as `/progress`, the admin door and the page show it."""

from collections import deque
from typing import Literal

import msgspec

from server.core.image import ImageFinished, ImageReady, ImageRequest, ImageStarted, Preview, StepDone
from server.core.jobs import Event, JobId, JobState, Work
from server.core.pixels import PixelWork
from server.core.text import (
    ChatRequest,
    CompletionRequest,
    ReasoningDelta,
    SamplingParams,
    TextDelta,
    TextFinished,
    ToolCallDelta,
)
from server.service.totals import TextTotals, Totals

HISTORY = 64


class JobView(msgspec.Struct, frozen=True, kw_only=True):
    """How a job stands. Times are seconds of the monotonic clock. `position` counts among the waiting, 0 when running.

    `step` of `steps` in pass `pass_index` of `passes` tell the progress of pictures and stay 0 for text. `preview` is
    the newest rough look (PNG). `tag` is the mark that the door gave (a client's task id). `sampling` is how text is
    written, None for other work, and `written` how many tokens have been shown.
    """

    id: JobId
    kind: Literal["text", "image"]
    model: str
    state: JobState
    owner: str
    arrived: float
    started: float | None = None
    ended: float | None = None
    position: int = 0
    pass_index: int = 0
    passes: int = 0
    step: int = 0
    steps: int = 0
    preview: bytes | None = None
    tag: str = ""
    sampling: SamplingParams | None = None
    written: int = 0


class JobEntry:
    """The mutable side of a view; the loop alone changes it."""

    def __init__(self, job: JobId, work: Work, *, owner: str, tag: str, now: float) -> None:
        self.id = job
        self.work = work
        self.owner = owner
        self.tag = tag
        self.state = JobState.WAITING
        self.arrived = now
        self.started: float | None = None
        self.ended: float | None = None
        self.totals: Totals | None = None
        self._forget_progress()

    def _forget_progress(self) -> None:
        self._pass_index = 0
        self._passes = 0
        self._step = 0
        self._steps = 0
        self._preview: bytes | None = None
        self._written = 0

    def wait_again(self) -> None:
        """Put the job back among the waiting: what was done of it is lost."""
        self.state = JobState.WAITING
        self._forget_progress()

    def drop_preview(self) -> None:
        """Forget the rough look, which nobody needs once the job has ended."""
        self._preview = None

    def note(self, event: Event) -> None:
        """Take the progress out of an event."""
        match event:
            case ImageStarted():
                self._passes, self._steps = event.passes, event.steps
            case StepDone():
                self._pass_index, self._step, self._steps = event.pass_index, event.step, event.steps
            case Preview():
                self._preview = event.png
            case ImageReady() | ImageFinished():
                self.drop_preview()
            case TextDelta() | ReasoningDelta() | ToolCallDelta():
                self._written += event.tokens
            case TextFinished() if self.totals is not None:
                self.totals.note(self.work, event)
            case _:
                pass

    def view(self, position: int = 0) -> JobView:
        """Return the entry as a value."""
        return JobView(
            id=self.id,
            kind="image" if isinstance(self.work, ImageRequest | PixelWork) else "text",
            model=self.work.model,
            state=self.state,
            owner=self.owner,
            arrived=self.arrived,
            started=self.started,
            ended=self.ended,
            position=position,
            pass_index=self._pass_index,
            passes=self._passes,
            step=self._step,
            steps=self._steps,
            preview=self._preview,
            tag=self.tag,
            sampling=self.work.sampling if isinstance(self.work, ChatRequest | CompletionRequest) else None,
            written=self._written,
        )


class Board:
    """Live jobs in order of arrival, and the newest ended ones."""

    def __init__(self) -> None:
        self._live: dict[JobId, JobEntry] = {}
        self._past: deque[JobView] = deque(maxlen=HISTORY)
        self._totals = Totals()

    def add(self, entry: JobEntry) -> None:
        """Put up a new job; what it writes is counted from now on."""
        self._live[entry.id] = entry
        entry.totals = self._totals

    def running(self, job: JobId, now: float) -> None:
        """Note that a worker has the job; a job that is done again keeps its first start."""
        entry = self._live.get(job)
        if entry is not None:
            entry.state = JobState.RUNNING
            entry.started = entry.started if entry.started is not None else now

    def end(self, job: JobId, state: JobState, now: float) -> None:
        """Move a job to the history."""
        entry = self._live.pop(job, None)
        if entry is not None:
            entry.state, entry.ended = state, now
            entry.drop_preview()
            self._past.appendleft(entry.view())

    def get(self, job: JobId) -> JobEntry | None:
        """Return a live job."""
        return self._live.get(job)

    def views(self) -> tuple[JobView, ...]:
        """Return live jobs, oldest first, then ended ones, newest first."""
        waiting = 0
        live = []
        for entry in self._live.values():
            if entry.state is JobState.WAITING:
                live.append(entry.view(waiting))
                waiting += 1
            else:
                live.append(entry.view())
        return (*live, *self._past)

    @property
    def totals(self) -> TextTotals:
        """Return what all text jobs since the start have used."""
        return self._totals.view()

    @property
    def live(self) -> int:
        """Return how many jobs have not ended."""
        return len(self._live)

    @property
    def waiting(self) -> int:
        """Return how many jobs have no worker yet."""
        return sum(entry.state is JobState.WAITING for entry in self._live.values())
