"""The one owner of the scheduler: feeds it events, carries out its actions, and carries outcomes to streams.

Slow work is always two quick events with a task between them: a load ends in `Loaded` or `LoadEnded`, an eviction in
`Gone`. What happens to a model is noted in the order of these events and in no other, deaths too: a grant that crossed
a death finds nobody, and the death, when its turn comes, finds the granted job. Everything here runs in the event
loop's thread.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from uuid import uuid4

from server.core.errors import Broken, ModelBusy, OutOfMemory, ServerError, ShuttingDown, WorkerDied, from_data
from server.core.jobs import (
    CancelMode,
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
from server.core.memory import PoolId
from server.core.models import AdapterFacts, ModelCard, ModelId, ModelKind
from server.registry.residents import Residents, ResidentView
from server.service import decisions as hall
from server.service.awaited import Awaited
from server.service.board import Board, JobEntry
from server.service.decisions import SchedulerEvent
from server.service.limits import Limits
from server.service.live import MAX_TRIES, LiveJob, LiveJobs
from server.service.loading import Provision, listed, load_in_time, standing
from server.service.scheduler import Scheduler
from server.service.spare_keeper import SpareKeeper
from server.service.stream import JobStream
from server.service.suspects import Suspects

logger = logging.getLogger(__name__)

Clock = Callable[[], float]


class Loop:
    """Turns submissions into streams. `start` it before use and `close` it after; `drain` ends gently."""

    def __init__(
        self,
        scheduler: Scheduler,
        provision: Provision,
        *,
        clock: Clock = time.monotonic,
        limits: Limits = Limits(),  # noqa: B008 (a frozen value)
    ) -> None:
        self.board = Board()
        self._scheduler = scheduler
        self._provision = provision
        self._clock = clock
        self._limits = limits
        self._residents = Residents(on_outcomes=self._outcomes, on_death=self._died, stop_grace_s=limits.stop)
        self._events: asyncio.Queue[SchedulerEvent] = asyncio.Queue()
        self._spare = SpareKeeper(self._residents, provision, self._post, rest_s=limits.rest)
        self._live = LiveJobs(self.board)
        self._suspects = Suspects()
        self._cards: dict[ModelId, ModelCard] = {}
        self._heard: dict[ModelId, float] = {}
        self._awaited = Awaited()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def start(self) -> None:
        """Begin to work; needs a running event loop."""
        self._spawn(self._run(), "hall")
        self._spawn(self._tick(), "hall: clock")

    def submit(self, card: ModelCard, work: Work, *, owner: str, tag: str) -> JobStream:
        """Accept a job for a card and return its stream.

        Raises:
            ShuttingDown: after `close`.
            InvalidValue: this very request has just ended two workers.
        """
        self._check_open()
        self._suspects.check(work, self._clock())
        job = JobId(uuid4().hex)
        submitted = self._submitted(job, card, work, owner=owner)
        entry = JobEntry(job, work, owner=owner, tag=tag, now=self._clock())
        live = LiveJob(entry, card, JobStream(job, self.cancel))
        live.tries = 1
        self._live.add(live)
        live.stream.push(Waiting(position=self.board.waiting - 1))
        if self._scheduler.stage(card.id) is hall.Stage.LOADING:
            live.stream.push(Loading(model=card.id))
        self._post(submitted)
        return live.stream

    async def load(self, card: ModelCard) -> None:
        """Return when the card is loaded; raise the core error that prevents it."""
        self._check_open()
        if self._scheduler.stage(card.id) is hall.Stage.READY and self._residents.get(card.id) is not None:
            return
        job = JobId(uuid4().hex)
        submitted = self._submitted(job, card, None)
        done = self._awaited.load(job, card.id)
        self._post(submitted)
        try:
            await done
        finally:
            if self._awaited.forget(job):
                self._post(hall.Withdrawn(job))

    async def unload(self, model: ModelId) -> None:
        """Return when the model's process is gone; raise ModelBusy while jobs run on it or it is loading."""
        self._check_open()
        if self._scheduler.stage(model) is None:
            return
        done = self._awaited.unload(model)
        self._post(hall.Unload(model))
        await done

    def cancel(self, job: JobId, mode: CancelMode) -> bool:
        """End a job early; False when there is no such job. A worker that does not obey in time is killed.

        A job that waits is withdrawn, but for SKIP, which means a batch that does not run yet.
        """
        live = self._live.get(job)
        if live is None:
            return False
        if live.entry.state is not JobState.WAITING:
            self._cancel_running(live, mode)
        elif mode is not CancelMode.SKIP:
            self._post(hall.Withdrawn(job))
            self._end(live, JobState.CANCELLED)
        return True

    def residents(self) -> tuple[ResidentView, ...]:
        """Return the models that are loading, ready or leaving."""
        return tuple(self._view(model) for model in self._scheduler.residents() if model in self._cards)

    def adapters(self, card: ModelCard) -> tuple[AdapterFacts, ...]:
        """Return the adapters of a text model: those it is loaded with, else those that it would be."""
        resident = self._residents.get(card.id)
        if resident is not None and resident.facts is not None:
            return resident.facts.adapters
        return listed(self._provision.settings(card))

    async def fingerprint(self, card: ModelCard) -> None:
        """Return once the hashes are known that pictures of the card carry."""
        await self._provision.fingerprint(card)

    def used(self) -> dict[PoolId, int]:
        """Return the bytes per pool that models hold now."""
        return self._scheduler.used()

    async def drain(self, limit_s: float) -> None:
        """Refuse what waits, let what runs end for at most `limit_s` seconds."""
        self._post(hall.Shutdown())
        try:
            async with asyncio.timeout(limit_s):
                await self._live.all_ended()
        except TimeoutError:
            logger.warning("%d jobs did not end within %.0f s and are abandoned", len(self._live), limit_s)

    async def close(self) -> None:
        """End all jobs, all workers and the loop itself."""
        self._closed = True
        error = ShuttingDown("the server was stopped before this was done", retry_after=10)
        for live in self._live:
            self._end(live, JobState.FAILED, error)
        self._awaited.close(error)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._residents.close()

    def _check_open(self) -> None:
        if self._closed:
            raise ShuttingDown("the server is shutting down", retry_after=10)

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
            context=facts.context if facts else 0,
            adapters=facts.adapters if facts else (),
        )

    def _post(self, event: SchedulerEvent) -> None:
        self._events.put_nowait(event)

    def _submitted(
        self, job: JobId, card: ModelCard, work: Work | None, *, owner: str = "", since: float | None = None
    ) -> hall.Submitted:
        need = standing(card, self._provision.expected(card))
        working = {} if card.kind is ModelKind.TEXT else self._provision.working(card, work)
        self._cards[card.id] = card
        return hall.Submitted(
            job=job,
            model=card.id,
            need=need,
            working=working,
            runtime=card.runtime or "",
            owner=owner,
            pinned=self._provision.is_pinned(card),
            since=since,
        )

    def _spawn(self, work: Coroutine[None, None, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self) -> None:
        while True:
            event = await self._events.get()
            if isinstance(event, hall.Submitted) and event.job not in self._live and event.job not in self._awaited:
                # Cancelled before its turn came; it must not cause a load.
                continue
            try:
                actions = self._scheduler.on(event, self._clock())
                self._note(event)
            except Exception:
                logger.exception("the hall could not take %s", type(event).__name__)
                continue
            for action in actions:
                try:
                    self._act(action)
                except Exception:
                    logger.exception("the hall could not carry out %s", type(action).__name__)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(self._limits.tick)
            busy = bool(self._live or self._awaited.loads)
            if busy:
                self._post(hall.Tick())
                self._find_silent()
            self._spare.look(self._clock(), busy=busy, loaded=self._scheduler.residents())

    def _find_silent(self) -> None:
        now = self._clock()
        for model in self._scheduler.residents():
            if self._scheduler.jobs_on(model) and now - self._heard.get(model, now) > self._limits.silence:
                logger.error("model=%s has sent nothing for %.0f s, killing its worker", model, self._limits.silence)
                self._residents.kill(model)

    def _note(self, event: SchedulerEvent) -> None:
        """Do what an event means for those who wait for a model to come or to leave, and for a dead worker's jobs."""
        match event:
            case hall.Loaded(model=model):
                self._awaited.came(model)
            case hall.Gone(model=model):
                self._awaited.left(model)
                if event.died:
                    self._bereave(model, event.how)
            case hall.LoadEnded(model=model):
                self._awaited.left(model)
            case hall.Unload(model):
                stage = self._scheduler.stage(model)
                if stage in (hall.Stage.READY, hall.Stage.LOADING):
                    text = f"model {model!r} is in use and cannot be unloaded now"
                    self._awaited.left(model, ModelBusy(text, model=model, retry_after=5))
                elif stage is None:
                    self._awaited.left(model)
            case _:
                pass

    def _act(self, action: hall.Action) -> None:
        match action:
            case hall.Grant(job, model):
                self._grant(job, model)
            case hall.Refuse(job, error):
                self._refuse(job, from_data(error))
            case hall.Load(model, into_spare):
                for live in self._live.of(model, JobState.WAITING):
                    live.stream.push(Loading(model=model))
                self._spawn(self._load(self._cards[model], into_spare=into_spare), f"load {model}")
            case hall.Evict(model):
                self._spawn(self._evict(model), f"evict {model}")
            case hall.Warm(number, runtime, room):
                self._spawn(self._spare.start(number, runtime, room), "warm the spare")
            case hall.Cool(number):
                self._spawn(self._spare.end(number), "end the spare")

    def _grant(self, job: JobId, model: ModelId) -> None:
        self._awaited.load_ended(job)
        live = self._live.get(job)
        if live is None:
            self._post(hall.Finished(job))
            return
        self.board.running(job, self._clock())
        # An idle worker owes nobody a word; from now on it does.
        self._heard[model] = self._clock()
        try:
            self._residents.run(model, job, live.entry.work)
        except ServerError as error:
            logger.error("job=%s cannot be given to a worker: %s", job, error)
            self._post(hall.Finished(job))
            self._end(live, JobState.FAILED, error)

    def _refuse(self, job: JobId, error: ServerError) -> None:
        self._awaited.load_ended(job, error)
        live = self._live.get(job)
        if live is not None:
            logger.info("refused job=%s model=%s: %s", job, live.card.id, error)
            self._end(live, JobState.FAILED, error)

    async def _load(self, card: ModelCard, *, into_spare: bool) -> None:
        settings, limit = self._provision.settings, self._limits.load
        try:
            facts = await load_in_time(card, settings(card), self._residents, limit_s=limit, use_spare=into_spare)
        except ServerError as error:
            self._post(hall.LoadEnded(model=card.id, error=error.to_data()))
        except Exception:
            logger.exception("model=%s could not be loaded", card.id)
            reason = Broken(f"model {card.id!r} could not be loaded; the log has the details", model=card.id)
            self._post(hall.LoadEnded(model=card.id, error=reason.to_data()))
        else:
            self._provision.learn(card, facts.footprint)
            self._post(hall.Loaded(model=card.id, slots=facts.slots, held=standing(card, facts.footprint)))
            self._residents.watch(card.id)
            self._spawn(self.fingerprint(card), f"fingerprint {card.id}")  # not before: the load wants the processors

    async def _evict(self, model: ModelId) -> None:
        if await self._residents.leave(model):
            self._post(hall.Gone(model=model))

    def _outcomes(self, model: ModelId, items: list[Outcome]) -> None:
        self._heard[model] = self._clock()
        for item in items:
            live = self._live.get(item.job)
            if live is None:
                continue
            match item:
                case JobEvent(event=event):
                    live.take(event)
                case JobDone():
                    if item.taken:
                        self._provision.note_job(live.card, live.entry.work, item.taken)
                    if item.held:
                        self._post(hall.Grown(model=model, held=item.held))
                    self._post(hall.Finished(item.job))
                    self._end(live, JobState.CANCELLED if live.ending else JobState.DONE)
                case JobFailed(error=error):
                    if error.code == OutOfMemory.code:
                        # A device seldom gives back all of what a failed job took.
                        self._post(hall.Worn(model))
                    self._post(hall.Finished(item.job))
                    self._end(live, JobState.FAILED, from_data(error))

    def _died(self, model: ModelId, how: str, tail: list[str]) -> None:
        self._post(hall.Gone(model=model, died=True, how=how))

    def _bereave(self, model: ModelId, how: str) -> None:
        """Tell the jobs that were on a dead worker; those that have sent nothing yet are done again once."""
        running = self._live.of(model, JobState.RUNNING)
        for live in running:
            if len(running) == 1 and live.tries == MAX_TRIES:
                self._suspects.convict(live.entry.work, how, self._clock())
            if live.abandoned:
                self._end(live, JobState.CANCELLED)
            elif live.may_try_again():
                live.tries += 1
                live.entry.wait_again()
                self._post(
                    self._submitted(
                        live.id, live.card, live.entry.work, owner=live.entry.owner, since=live.entry.arrived
                    )
                )
            else:
                text = f"the worker of model {model!r} ended unexpectedly ({how}); the next request starts it again"
                self._end(live, JobState.FAILED, WorkerDied(text, model=model, exit=how, retry_after=1))

    def _cancel_running(self, live: LiveJob, mode: CancelMode) -> None:
        live.ending = live.ending or mode is not CancelMode.SKIP
        live.abandoned = live.abandoned or mode is CancelMode.ABANDON
        self._residents.cancel(live.card.id, live.id, mode)
        if live.ending and live.deadline is None:
            loop = asyncio.get_running_loop()
            live.deadline = loop.call_later(self._limits.cancel, self._overdue, live)

    def _overdue(self, live: LiveJob) -> None:
        logger.error("job=%s does not end, killing the worker of model=%s", live.id, live.card.id)
        self._residents.kill(live.card.id)

    def _end(self, live: LiveJob, state: JobState, error: ServerError | None = None) -> None:
        self._live.end(live, state, self._clock(), error)
