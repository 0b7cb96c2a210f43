"""Who goes next: a machine without effects. Events in, actions out; time is an argument.

Rules, asked for each waiting job in order of arrival, owners taking turns (`turns`):

1. its model can never fit            -> refuse
2. its model failed a moment ago      -> refuse, with the time until the next try; after a crash or two, wait for it
3. its model is ready, a slot is free -> grant, once there is room for what the job takes, too (as in 5 to 7)
4. its model is loading or leaving    -> wait
5. it fits beside what is there       -> load
6. it fits once idle models leave     -> evict them, oldest use first, and wait until they are gone
7. else                               -> wait; loads of later jobs wait behind it

A job that has waited longer than `patience_s` in rule 7 stops later jobs from being granted on the busy models whose
leaving it needs, so that they become idle; which ones is settled once, or two busy models would take turns in being
spared. Models count against the budget from the decision to load until their process is gone, jobs while they run, and
so does a spare worker (`spare`), which goes before any model.
"""

from collections.abc import Mapping, Set

import msgspec

from server.core.errors import ShuttingDown
from server.core.jobs import JobId
from server.core.memory import RAM, MemoryBudget, PoolId, add
from server.core.models import ModelId
from server.service.backoff import Backoff
from server.service.decisions import (
    Action,
    Finished,
    Gone,
    Grant,
    Grown,
    Load,
    Loaded,
    LoadEnded,
    Refuse,
    SchedulerEvent,
    Shutdown,
    SpareGone,
    SpareReady,
    SpareStarted,
    SpareWanted,
    Stage,
    Submitted,
    Tick,
    Unload,
    Withdrawn,
    Worn,
)
from server.service.occupancy import Entry, Occupancy, Resident, does_not_fit
from server.service.turns import Turns


class _Ahead:
    """What those who stand before a job in line wait for.

    `held_back` are the models that get no jobs meanwhile, `promised` the room that is kept beside what those free.
    `queues` are the models on which a job waits for room.
    """

    def __init__(self) -> None:
        self.room_is_awaited = False
        self.held_back: Set[ModelId] = frozenset()
        self.promised: Mapping[PoolId, int] = {}
        self.queues: set[ModelId] = set()

    def stands_before(self, model: ModelId) -> bool:
        """Tell whether jobs on a model have to wait behind those ahead."""
        return model in self.held_back or model in self.queues


class Scheduler:
    """Decides; never acts. One owner calls `on`, all else is read-only."""

    def __init__(self, budget: MemoryBudget, *, patience_s: float = 5.0) -> None:
        self.budget = budget
        self._memory = Occupancy(budget)
        self._patience_s = patience_s
        self._waiting: dict[JobId, Entry] = {}
        self._where: dict[JobId, ModelId] = {}
        self._turns = Turns()
        self._backoff = Backoff()
        self._clearing: tuple[JobId, frozenset[ModelId]] | None = None
        self._closing = False

    def on(self, event: SchedulerEvent, now: float) -> list[Action]:
        """Take an event at time `now` (seconds, never decreasing) and return what is to be done, in order."""
        actions = self._note(event, now)
        return actions + self._plan(now)

    def used(self) -> dict[PoolId, int]:
        """Return the bytes per pool that loading, ready and leaving models hold, their jobs, and a spare worker."""
        return self._memory.used()

    def stage(self, model: ModelId) -> Stage | None:
        """Return where a model is in its life, None when it is absent."""
        resident = self._memory.residents.get(model)
        return resident.stage if resident else None

    def jobs_on(self, model: ModelId) -> int:
        """Return how many jobs run on a model."""
        resident = self._memory.residents.get(model)
        return len(resident.jobs) if resident else 0

    def last_used(self, model: ModelId) -> float:
        """Return when a model was last granted or left by a job; 0 when it is absent."""
        resident = self._memory.residents.get(model)
        return resident.last_used if resident else 0.0

    def residents(self) -> tuple[ModelId, ...]:
        """Return the models that are loading, ready or leaving."""
        return tuple(self._memory.residents)

    def _note(self, event: SchedulerEvent, now: float) -> list[Action]:
        match event:
            case Submitted():
                return self._submitted(event, now)
            case LoadEnded():
                return self._load_ended(event, now)
            case Unload(model):
                return self._memory.evict([model])
            case Shutdown():
                return self._shutdown()
            case SpareWanted():
                return self._spare_wanted(event)
            case SpareStarted() | SpareReady() | SpareGone():
                self._memory.spare.note(event)
            case _:
                self._record(event, now)
        return []

    def _record(self, event: Finished | Withdrawn | Loaded | Gone | Grown | Worn | Tick, now: float) -> None:
        match event:
            case Finished(job):
                self._finished(job, now)
            case Withdrawn(job):
                self._waiting.pop(job, None)
            case Loaded():
                self._loaded(event, now)
            case Gone():
                self._gone(event, now)
            case Grown(model=model, held=held):
                if model in self._memory.residents:
                    self._memory.residents[model].held = held
            case Worn(model):
                if model in self._memory.residents:
                    self._memory.residents[model].worn = True
            case Tick():
                pass

    def _submitted(self, event: Submitted, now: float) -> list[Action]:
        if self._closing:
            return [Refuse(event.job, ShuttingDown("the server is shutting down").to_data())]
        arrived = now if event.since is None else event.since
        self._waiting[event.job] = Entry(
            job=event.job,
            model=event.model,
            need=event.need,
            working=event.working,
            runtime=event.runtime,
            owner=event.owner,
            pinned=event.pinned,
            arrived=arrived,
        )
        if event.since is not None:
            self._waiting = dict(sorted(self._waiting.items(), key=lambda item: item[1].arrived))
        return []

    def _finished(self, job: JobId, now: float) -> None:
        self._turns.ended(job)
        model = self._where.pop(job, None)
        resident = self._memory.residents.get(model) if model is not None else None
        if resident is not None:
            resident.jobs.pop(job, None)
            resident.last_used = now

    def _loaded(self, event: Loaded, now: float) -> None:
        resident = self._memory.residents.get(event.model)
        if resident is not None and resident.stage is Stage.LOADING:
            resident.loaded(event.slots, event.held, now)
            # Those who wait for its next load, should it have to leave before, need what was measured.
            for job, entry in self._waiting.items():
                if entry.model == event.model:
                    self._waiting[job] = msgspec.structs.replace(entry, need=event.held)

    def _load_ended(self, event: LoadEnded, now: float) -> list[Action]:
        self._memory.residents.pop(event.model, None)
        pause = self._backoff.load_failed(event.model, event.error.message, now)
        error = msgspec.structs.replace(event.error, facts={**event.error.facts, "retry_after": pause})
        refused = [entry.job for entry in self._waiting.values() if entry.model == event.model]
        for job in refused:
            del self._waiting[job]
        return [Refuse(job, error) for job in refused]

    def _gone(self, event: Gone, now: float) -> None:
        resident = self._memory.residents.pop(event.model, None)
        for job in resident.jobs if resident else ():
            self._turns.ended(job)
            self._where.pop(job, None)
        if event.died:
            self._backoff.died(event.model, f"its worker process ended unexpectedly ({event.how})", now)

    def _spare_wanted(self, event: SpareWanted) -> list[Action]:
        memory = self._memory
        if self._closing or self._waiting or not memory.is_quiet() or not memory.spare.may_start:
            return []
        if memory.lacks(add([event.need, {RAM: event.room}, event.kept])) is not None:
            event = msgspec.structs.replace(event, room=0)
        return [] if memory.lacks(event.need) is not None else [*memory.spare.start(event)]

    def _shutdown(self) -> list[Action]:
        self._closing = True
        error = ShuttingDown("the server is shutting down").to_data()
        refused: list[Action] = [Refuse(job, error) for job in self._waiting]
        self._waiting.clear()
        return refused

    def _plan(self, now: float) -> list[Action]:
        memory = self._memory
        if self._closing:
            return [*memory.spare.leave(), *memory.evict(memory.residents)]
        actions = memory.evict(model for model, resident in memory.residents.items() if resident.worn)
        actions += memory.shed()
        ahead = _Ahead()
        for entry in self._line():
            actions += self._ask(entry, ahead, now)
        return actions

    def _ask(self, entry: Entry, ahead: "_Ahead", now: float) -> list[Action]:
        """Decide about one job; `ahead` is what those before it wait for, and takes in what this one does."""
        memory = self._memory
        resident = memory.residents.get(entry.model)
        if resident is not None and (not resident.has_slot() or ahead.stands_before(entry.model)):
            return []
        if resident is not None and not entry.working:
            return self._grant(entry, resident, now)
        refusal = self._refusal(entry, resident, now)
        if refusal is not None:
            del self._waiting[entry.job]
            return [refusal]
        if resident is not None:
            if self._has_room(entry, ahead):
                return self._grant(entry, resident, now)
            ahead.queues.add(entry.model)
        if ahead.room_is_awaited or (resident is None and self._backoff.is_pausing(entry.model, now)):
            return []
        actions = self._place(entry, now) if resident is None else memory.make_room(entry, entry.working)
        if resident is not None or entry.model not in memory.residents:
            self._wait_for_room(entry, ahead, now)
        return actions

    def _has_room(self, entry: Entry, ahead: "_Ahead") -> bool:
        """Tell whether a job has the room it takes, beside what is promised to one that has waited too long."""
        wanted = add([entry.working, ahead.promised])
        return self._memory.lacks(entry.working) is None and self._memory.lacks(wanted) is None

    def _wait_for_room(self, entry: Entry, ahead: "_Ahead", now: float) -> None:
        ahead.room_is_awaited = True
        if now - entry.arrived < self._patience_s:
            return
        need = entry.working if entry.model in self._memory.residents else add([entry.need, entry.working])
        job, chosen = self._clearing or (None, frozenset())
        # Settled once for each job.
        ahead.held_back = self._memory.in_the_way(entry, need, chosen if job == entry.job else ())
        self._clearing = (entry.job, ahead.held_back)
        residents = self._memory.residents
        freed = add(residents[model].total() for model in ahead.held_back if model in residents)
        ahead.promised = {pool: count - freed.get(pool, 0) for pool, count in need.items()}

    def _line(self) -> list[Entry]:
        """Return those who wait in the order in which they are asked for."""
        waiting = list(self._waiting.values())
        if len({entry.owner for entry in waiting}) < 2:
            return waiting
        # A model that was loaded or cleared for one must not go again because another's turn has come meanwhile.
        wanted = {resident.wanted_by for resident in self._memory.residents.values()}
        clearing = self._clearing[0] if self._clearing else None
        return sorted(self._turns.order(waiting), key=lambda entry: (entry.job not in wanted, entry.job != clearing))

    def _grant(self, entry: Entry, resident: Resident, now: float) -> list[Action]:
        del self._waiting[entry.job]
        resident.jobs[entry.job] = entry.working
        resident.last_used = now
        self._where[entry.job] = entry.model
        self._turns.granted(entry.job, entry.owner)
        return [Grant(entry.job, entry.model)]

    def _refusal(self, entry: Entry, resident: Resident | None, now: float) -> Refuse | None:
        """Return the refusal of a job that can never be done, or whose model is in trouble."""
        held = entry.need if resident is None else resident.held
        pinned = self._memory.pinned(besides=entry.model)
        lacking = self.budget.lacking(pinned, add([held, entry.working]))
        if lacking is not None:
            return Refuse(entry.job, does_not_fit(entry, held, pinned, self.budget, lacking).to_data())
        trouble = self._backoff.refusal(entry.model, now) if resident is None else None
        return Refuse(entry.job, trouble.to_data()) if trouble is not None else None

    def _place(self, entry: Entry, now: float) -> list[Action]:
        """Load the model or make room for it; a model that is not among the residents afterwards has to wait."""
        need, memory = add([entry.need, entry.working]), self._memory
        into_spare = memory.spare.fits(entry.runtime)
        if memory.lacks(need, into_spare=into_spare) is not None:
            return memory.make_room(entry, need, keep_spare=into_spare)
        if into_spare:
            memory.spare.take()
        memory.residents[entry.model] = Resident(entry, now)
        return [Load(entry.model, into_spare=into_spare)]
