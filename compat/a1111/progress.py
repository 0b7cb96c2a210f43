"""The progress of picture jobs as A1111 tells it, from the board's views. Times are the monotonic clock's unless named.

Idle is `progress` 0 with `job_count` 0; a job that waits for its model has `job_count` -1, as in A1111 between the
start of a job and its first picture.
"""

import base64
import time
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence

import msgspec

from compat.a1111 import wire
from compat.a1111.runs import Run
from server.core.jobs import CancelMode, JobId, JobState
from server.service.service import JobView

JOB = "scripts_txt2img"
OFFSET = 0.01
LOOKED_BACK = 8
"""Ended jobs whose time tells how long a waiting one will take."""

_REMEMBERED = 256
_LIVE = (JobState.WAITING, JobState.RUNNING)


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """What the door knows of a job beside the board: number of batches, passes a batch, whether it was ended early.

    A job that is one of several for a request has a `label`, and `before` of `total` passes were done when it began.
    """

    batches: int = 1
    passes_per_batch: int = 1
    label: str = ""
    before: int = 0
    total: int = 0
    interrupted: bool = False
    skipped: bool = False


class Notes:
    """The notes of recent jobs. Owned by the door."""

    def __init__(self) -> None:
        self._notes: OrderedDict[JobId, Note] = OrderedDict()

    def get(self, job: JobId) -> Note:
        """Return the note of a job."""
        return self._notes.get(job, Note())

    def put(self, job: JobId, note: Note) -> None:
        """Set the note of a job, forgetting the oldest ones."""
        self._notes[job] = note
        while len(self._notes) > _REMEMBERED:
            self._notes.popitem(last=False)

    def ended(self, job: JobId, mode: CancelMode) -> None:
        """Note that somebody asked for a job's early end."""
        note = self.get(job)
        changed = {"skipped": True} if mode is CancelMode.SKIP else {"interrupted": True}
        self.put(job, msgspec.structs.replace(note, **changed))


class Clock(msgspec.Struct, frozen=True):
    """Now, on both clocks, in seconds."""

    monotonic: float
    wall: float

    @classmethod
    def now(cls) -> "Clock":
        """Return the time."""
        return cls(time.monotonic(), time.time())

    def stamp(self, at: float) -> str:
        """Return a monotonic time as A1111 writes one: `YYYYMMDDHHMMSS`, local."""
        return time.strftime("%Y%m%d%H%M%S", time.localtime(self.wall - max(self.monotonic - at, 0.0)))


def pictures_of(views: Iterable[JobView], owner: str) -> list[JobView]:
    """Return the picture jobs that a caller may see: its own where keys are set."""
    return [view for view in views if view.kind == "image" and (not owner or view.owner == owner)]


def current(views: Sequence[JobView]) -> JobView | None:
    """Return the job that `progress` is about: the oldest that runs, else the oldest that waits."""
    running = [view for view in views if view.state is JobState.RUNNING]
    waiting = [view for view in views if view.state is JobState.WAITING]
    return next(iter([*running, *waiting]), None)


def to_end(views: Sequence[JobView]) -> list[JobView]:
    """Return the jobs that `interrupt` and `skip` mean: those that run, else the one that would be next."""
    running = [view for view in views if view.state is JobState.RUNNING]
    now = current(views)
    return running or ([now] if now is not None else [])


def progress(
    views: Sequence[JobView], notes: Notes, clock: Clock, *, with_image: bool, between: Run | None = None
) -> wire.ProgressAnswer:
    """Return the answer of `GET progress` about the caller's picture jobs, or the run that has none right now."""
    view = current(views)
    if view is None and between is not None:
        state = _between(between, clock)
        share = OFFSET + _share(state)
        elapsed = max(clock.monotonic - between.started, 0.0)
        return wire.ProgressAnswer(progress=min(share, 1.0), eta_relative=elapsed / share - elapsed, state=state)
    if view is None:
        return wire.ProgressAnswer(progress=0.0, eta_relative=0.0, state=_idle(views, notes, clock))
    state = _state(view, notes.get(view.id), clock)
    share = OFFSET + _share(state)
    image = base64.b64encode(view.preview).decode("ascii") if with_image and view.preview else None
    return wire.ProgressAnswer(
        progress=min(share, 1.0), eta_relative=_eta(view, views, share, clock), state=state, current_image=image
    )


def task_progress(
    views: Sequence[JobView],
    asked: wire.TaskProgressRequest,
    notes: Notes,
    clock: Clock,
    *,
    between: Run | None = None,
) -> wire.TaskProgress:
    """Return the answer of `POST /internal/progress` about the job with the client's task id."""
    mine = [view for view in views if asked.id_task and view.tag == asked.id_task]
    view = next((one for one in mine if one.state in _LIVE), None)
    if view is None and between is not None and asked.id_task and between.tag == asked.id_task:
        return wire.TaskProgress(active=True, progress=min(_share(_between(between, clock)), 1.0), textinfo=None)
    if view is None:
        return wire.TaskProgress(completed=bool(mine))
    if view.state is JobState.WAITING:
        waiting = sum(one.state is JobState.WAITING for one in views)
        return wire.TaskProgress(
            queued=True, textinfo=f"In queue: {view.position + 1}/{max(waiting, view.position + 1)}"
        )
    share = min(_share(_state(view, notes.get(view.id), clock)), 1.0)
    elapsed = max(clock.monotonic - (view.started or view.arrived), 0.0)
    picture = view.preview if asked.live_preview else None
    number = zlib.crc32(picture) if picture else asked.id_live_preview
    fresh = picture is not None and number != asked.id_live_preview
    return wire.TaskProgress(
        active=True,
        progress=share,
        eta=elapsed / share - elapsed if share > 0 else None,
        live_preview="data:image/png;base64," + base64.b64encode(picture).decode("ascii")
        if fresh and picture
        else None,
        id_live_preview=number,
        textinfo=None,
    )


def _eta(view: JobView, views: Sequence[JobView], share: float, clock: Clock) -> float:
    """Return the seconds that a job has still to go.

    One that waits, in the queue or for its model, has those of the jobs before it too: each is taken to need as long as
    the newest ones that ended did, from their arrival at the worker.
    """
    if view.started is None:
        known = [one.ended - one.started for one in views if one.ended is not None and one.started is not None]
        if known:
            return (view.position + 1) * sum(known[:LOOKED_BACK]) / len(known[:LOOKED_BACK])
    elapsed = max(clock.monotonic - (view.started if view.started is not None else view.arrived), 0.0)
    return elapsed / share - elapsed


def _share(state: wire.ProgressState) -> float:
    if state.job_count <= 0:
        return 0.0
    share = state.job_no / state.job_count
    if state.sampling_steps > 0:
        share += 1 / state.job_count * state.sampling_step / state.sampling_steps
    return share


def _between(run: Run, clock: Clock) -> wire.ProgressState:
    return wire.ProgressState(
        interrupted=run.stopped,
        job=run.label,
        job_count=max(run.total, 1),
        job_timestamp=clock.stamp(run.started),
        job_no=run.done,
    )


def _label(view: JobView, note: Note) -> str:
    if note.label:
        return note.label
    batch = view.pass_index // max(note.passes_per_batch, 1) + 1
    return f"Batch {batch} out of {note.batches}" if note.batches > 1 and view.passes else JOB


def _state(view: JobView, note: Note, clock: Clock) -> wire.ProgressState:
    return wire.ProgressState(
        skipped=note.skipped,
        interrupted=note.interrupted,
        job=_label(view, note),
        job_count=note.total or view.passes or -1,
        job_timestamp=clock.stamp(view.arrived),
        job_no=note.before + view.pass_index,
        sampling_step=max(view.step - 1, 0),
        sampling_steps=view.steps,
    )


def _idle(views: Sequence[JobView], notes: Notes, clock: Clock) -> wire.ProgressState:
    last = next((view for view in views if view.state not in _LIVE), None)
    if last is None:
        return wire.ProgressState()
    note = notes.get(last.id)
    return wire.ProgressState(
        skipped=note.skipped,
        interrupted=note.interrupted,
        job_timestamp=clock.stamp(last.arrived),
        job_no=last.passes,
        sampling_steps=last.steps,
    )
