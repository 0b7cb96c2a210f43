"""The one owner of the scheduler: feeds it events, carries out its actions, and carries outcomes to streams.

Slow work is always two quick events with a task between them: a load ends in `Loaded` or `LoadEnded`, an eviction in
`Gone`. Everything here runs in the event loop's thread.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Protocol
from uuid import uuid4

import msgspec

from server.core.errors import Broken, ModelBusy, ServerError, WorkerDied, from_data
from server.core.image import ImageReady, ImageStarted
from server.core.jobs import (
    CancelMode,
    Event,
    JobDone,
    JobEvent,
    JobFailed,
    JobId,
    JobState,
    Loading,
    Outcome,
    Waiting,
    Work,
)
from server.core.memory import Footprint, PoolId
from server.core.models import LoadedFacts, LoadSettings, ModelCard, ModelId
from server.core.text import TextDelta, TextFinished, TextStarted
from server.registry.residents import Residents, ResidentView
from server.service import scheduler as hall
from server.service.board import Board, JobEntry
from server.service.scheduler import Scheduler, SchedulerEvent
from server.service.stream import JobStream

logger = logging.getLogger(__name__)

CANCEL_GRACE_S = 120.0
TICK_S = 0.5
MAX_TRIES = 2

Clock = Callable[[], float]


class Provision(Protocol):
    """What the registry knows about loading a card."""

    def settings(self, card: ModelCard) -> LoadSettings:
        """Return how the card is to be loaded."""
        ...

    def expected(self, card: ModelCard) -> Footprint:
        """Return what the loaded card will hold."""
        ...

    def learn(self, card: ModelCard, footprint: Footprint) -> None:
        """Remember what it did hold."""
        ...

    def is_pinned(self, card: ModelCard) -> bool:
        """Tell whether the card stays once it is loaded."""
        ...

    async def prepare(self, card: ModelCard) -> None:
        """Do what must be done by the time the model is ready (its file's hash, say)."""
        ...


class _Live:
    """A job from its arrival to its end. Once it has `spoken`, it cannot be done again unnoticed."""

    def __init__(self, entry: JobEntry, card: ModelCard, stream: JobStream) -> None:
        self.entry = entry
        self.card = card
        self.stream = stream
        self.tries = 0
        self.accepted = False
        self.spoken = False
        self.ending = False


class Loop:
    """Turns submissions into streams. `start` it before use and `close` it after; `drain` ends gently."""

    def __init__(
        self,
        scheduler: Scheduler,
        provision: Provision,
        *,
        clock: Clock = time.monotonic,
        cancel_grace_s: float = CANCEL_GRACE_S,
    ) -> None:
        self.board = Board()
        self._scheduler = scheduler
        self._provision = provision
        self._clock = clock
        self._cancel_grace_s = cancel_grace_s
        self._residents = Residents(on_outcomes=self._outcomes, on_death=self._died)
        self._events: asyncio.Queue[SchedulerEvent] = asyncio.Queue()
        self._live: dict[JobId, _Live] = {}
        self._cards: dict[ModelId, ModelCard] = {}
        self._loads: dict[JobId, asyncio.Future[None]] = {}
        self._unloads: dict[ModelId, list[asyncio.Future[None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()

    def start(self) -> None:
        """Begin to work; needs a running event loop."""
        self._spawn(self._run(), "hall")
        self._spawn(self._tick(), "hall: clock")

    def submit(self, card: ModelCard, work: Work, *, owner: str, tag: str) -> JobStream:
        """Accept a job for a card and return its stream."""
        job = JobId(uuid4().hex)
        entry = JobEntry(job, work, owner=owner, tag=tag, now=self._clock())
        stream = JobStream(job, self.cancel)
        live = _Live(entry, card, stream)
        self._live[job] = live
        self.board.add(entry)
        stream.push(Waiting(position=self.board.waiting - 1))
        self._enqueue(live)
        return stream

    async def load(self, card: ModelCard) -> None:
        """Return when the card is loaded; raise the core error that prevents it."""
        job = JobId(uuid4().hex)
        self._cards[card.id] = card
        done = self._loads[job] = asyncio.get_running_loop().create_future()
        self._post(self._submitted(job, card))
        try:
            await done
        finally:
            if self._loads.pop(job, None) is not None:
                self._post(hall.Withdrawn(job))

    async def unload(self, model: ModelId) -> None:
        """Return when the model's process is gone; raise ModelBusy while jobs run on it or it is loading."""
        if self._scheduler.stage(model) is None:
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._unloads.setdefault(model, []).append(done)
        self._post(hall.Unload(model))
        await done

    def cancel(self, job: JobId, mode: CancelMode) -> bool:
        """End a job early; False when there is no such job. A worker that does not obey in time is killed."""
        live = self._live.get(job)
        if live is None:
            return False
        if live.entry.state is JobState.WAITING:
            self._post(hall.Withdrawn(job))
            self._end(live, JobState.CANCELLED)
        else:
            live.ending = live.ending or mode is not CancelMode.SKIP
            self._residents.cancel(live.card.id, job, mode)
            if live.ending:
                asyncio.get_running_loop().call_later(self._cancel_grace_s, self._overdue, job, live.card.id)
        return True

    def residents(self) -> tuple[ResidentView, ...]:
        """Return the models that are loading, ready or leaving."""
        return tuple(self._view(model) for model in self._scheduler.residents() if model in self._cards)

    def used(self) -> dict[PoolId, int]:
        """Return the bytes per pool that models hold now."""
        return self._scheduler.used()

    async def drain(self, limit_s: float) -> None:
        """Refuse what waits, let what runs end for at most `limit_s` seconds."""
        self._post(hall.Shutdown())
        try:
            async with asyncio.timeout(limit_s):
                while self._live:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            logger.warning("%d jobs did not end within %.0f s and are abandoned", len(self._live), limit_s)

    async def close(self) -> None:
        """End all jobs, all workers and the loop itself."""
        for live in list(self._live.values()):
            live.stream.fail(Broken("the server stopped"))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._residents.close()

    def _view(self, model: ModelId) -> ResidentView:
        resident = self._residents.get(model)
        facts = resident.facts if resident else None
        stage = self._scheduler.stage(model)
        return ResidentView(
            model=model,
            kind=self._cards[model].kind,
            state=stage.name.lower() if stage else "leaving",
            slots=facts.slots if facts else 0,
            jobs=self._scheduler.jobs_on(model),
            pid=resident.worker.pid if resident else None,
            footprint=facts.footprint if facts else self._provision.expected(self._cards[model]),
            last_used=self._scheduler.last_used(model),
        )

    def _post(self, event: SchedulerEvent) -> None:
        self._events.put_nowait(event)

    def _submitted(self, job: JobId, card: ModelCard) -> hall.Submitted:
        need = self._provision.expected(card).total()
        return hall.Submitted(job=job, model=card.id, need=need, pinned=self._provision.is_pinned(card))

    def _enqueue(self, live: _Live) -> None:
        live.tries += 1
        self._cards[live.card.id] = live.card
        self._post(self._submitted(live.entry.id, live.card))

    def _spawn(self, work: Coroutine[None, None, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self) -> None:
        while True:
            event = await self._events.get()
            try:
                for action in self._scheduler.on(event, self._clock()):
                    self._act(action)
                self._settle(event)
            except Exception:
                logger.exception("the hall could not carry out %s", type(event).__name__)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            if self._live:
                self._post(hall.Tick())

    def _act(self, action: hall.Action) -> None:
        match action:
            case hall.Grant(job, model):
                self._grant(job, model)
            case hall.Refuse(job, error):
                self._refuse(job, from_data(error))
            case hall.Load(model):
                for live in self._live.values():
                    if live.card.id == model and live.entry.state is JobState.WAITING:
                        live.stream.push(Loading(model=model))
                self._spawn(self._load(self._cards[model]), f"load {model}")
            case hall.Evict(model):
                self._spawn(self._evict(model), f"evict {model}")

    def _settle(self, event: SchedulerEvent) -> None:
        """Answer those who wait for a model to leave."""
        match event:
            case hall.Gone(model=model) | hall.LoadEnded(model=model):
                for done in self._unloads.pop(model, []):
                    if not done.done():
                        done.set_result(None)
            case hall.Unload(model) if self._scheduler.stage(model) in (hall.Stage.READY, hall.Stage.LOADING):
                error = ModelBusy(f"model {model!r} is in use and cannot be unloaded now", model=model, retry_after=5)
                for done in self._unloads.pop(model, []):
                    if not done.done():
                        done.set_exception(error)
            case hall.Unload(model) if self._scheduler.stage(model) is None:
                for done in self._unloads.pop(model, []):
                    if not done.done():
                        done.set_result(None)
            case _:
                pass

    def _grant(self, job: JobId, model: ModelId) -> None:
        wanted = self._loads.pop(job, None)
        live = self._live.get(job)
        if wanted is not None and not wanted.done():
            wanted.set_result(None)
        if live is None:
            self._post(hall.Finished(job))
            return
        self.board.running(job, self._clock())
        self._residents.run(model, job, live.entry.work)

    def _refuse(self, job: JobId, error: ServerError) -> None:
        wanted = self._loads.pop(job, None)
        if wanted is not None and not wanted.done():
            wanted.set_exception(error)
        live = self._live.get(job)
        if live is not None:
            logger.info("refused job=%s model=%s: %s", job, live.card.id, error)
            self._end(live, JobState.FAILED, error)

    async def _load(self, card: ModelCard) -> None:
        try:
            facts = await self._load_prepared(card)
        except ServerError as error:
            self._post(hall.LoadEnded(model=card.id, error=error.to_data()))
        except Exception:
            logger.exception("model=%s could not be loaded", card.id)
            reason = Broken(f"model {card.id!r} could not be loaded; the log has the details", model=card.id)
            self._post(hall.LoadEnded(model=card.id, error=reason.to_data()))
        else:
            self._provision.learn(card, facts.footprint)
            self._post(hall.Loaded(model=card.id, slots=facts.slots, held=facts.footprint.total()))

    async def _load_prepared(self, card: ModelCard) -> LoadedFacts:
        """Load the card and prepare it beside that; wait for both whatever happens, so that nothing is left behind."""
        preparing = asyncio.create_task(self._provision.prepare(card))
        try:
            return await self._residents.load(card, self._provision.settings(card))
        finally:
            await preparing

    async def _evict(self, model: ModelId) -> None:
        if await self._residents.leave(model):
            self._post(hall.Gone(model=model))

    def _outcomes(self, model: ModelId, items: list[Outcome]) -> None:
        for item in items:
            live = self._live.get(item.job)
            if live is None:
                continue
            match item:
                case JobEvent(event=event):
                    self._event(live, event)
                case JobDone():
                    self._post(hall.Finished(item.job))
                    self._end(live, JobState.CANCELLED if live.ending else JobState.DONE)
                case JobFailed(error=error):
                    self._post(hall.Finished(item.job))
                    self._end(live, JobState.FAILED, from_data(error))

    def _event(self, live: _Live, event: Event) -> None:
        live.entry.note(event)
        match event:
            case TextStarted() | ImageStarted():
                if live.accepted:
                    return
                live.accepted = True
            case TextDelta() | TextFinished() | ImageReady():
                live.spoken = True
            case _:
                pass
        live.stream.push(event)

    def _died(self, model: ModelId, how: str, tail: list[str]) -> None:
        """Tell the jobs that were on a dead worker; those that have sent nothing yet are done again once."""
        self._post(hall.Gone(model=model, died=True))
        for live in [x for x in self._live.values() if x.card.id == model and x.entry.state is JobState.RUNNING]:
            if live.ending:
                self._end(live, JobState.CANCELLED)
            elif live.spoken or live.tries >= MAX_TRIES:
                text = f"the worker of model {model!r} ended unexpectedly ({how}); the next request starts it again"
                self._end(live, JobState.FAILED, WorkerDied(text, model=model, exit=how, retry_after=1))
            else:
                live.entry.state = JobState.WAITING
                self._enqueue(live)

    def _overdue(self, job: JobId, model: ModelId) -> None:
        live = self._live.get(job)
        if live is not None and live.entry.state is JobState.RUNNING:
            logger.error("job=%s does not end, killing the worker of model=%s", job, model)
            self._residents.kill(model)

    def _end(self, live: _Live, state: JobState, error: ServerError | None = None) -> None:
        self._live.pop(live.entry.id, None)
        self.board.end(live.entry.id, state, self._clock())
        if error is not None:
            live.stream.fail(error)
        else:
            live.stream.finish()
        self._changed.set()


def named(work: Work, model: ModelId) -> Work:
    """Return the work with its model's canonical name."""
    return msgspec.structs.replace(work, model=model)
