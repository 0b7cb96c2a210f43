"""Who goes next: a machine without effects. Events in, actions out; time is an argument.

Rules, asked for each waiting job in order of arrival, owners taking turns (`turns`):

1. its model can never fit            -> refuse
2. its model failed a moment ago      -> refuse, with the time until the next try; after a crash or two, wait for it
3. its model is ready, a slot is free -> grant
4. its model is loading or leaving    -> wait
5. it fits beside what is there       -> load
6. it fits once idle models leave     -> evict them, oldest use first, and wait until they are gone
7. else                               -> wait; loads of later jobs wait behind it

A job that has waited longer than `patience_s` in rule 7 stops later jobs from being granted on the busy models whose
leaving it needs, so that they become idle; which ones is settled once, or two busy models would take turns in being
spared. Models count against the budget from the decision to load until their process is gone.
"""

from collections.abc import Callable, Iterable, Mapping, Set

import msgspec

from server.core.errors import DoesNotFit, ShuttingDown
from server.core.jobs import JobId
from server.core.memory import MemoryBudget, PoolId, add, readable
from server.core.models import ModelId
from server.registry.eviction import Idle, choose
from server.service.backoff import Backoff
from server.service.decisions import (
    Action,
    Evict,
    Finished,
    Gone,
    Grant,
    Load,
    Loaded,
    LoadEnded,
    Refuse,
    SchedulerEvent,
    Shutdown,
    Stage,
    Submitted,
    Tick,
    Unload,
    Withdrawn,
    Worn,
)
from server.service.turns import Turns


class _Resident:
    def __init__(self, entry: "_Waiting", now: float) -> None:
        self.stage = Stage.LOADING
        self.held: Mapping[PoolId, int] = entry.need
        self.pinned = entry.pinned
        self.wanted_by = entry.job
        self.slots = 0
        self.worn = False
        self.jobs: set[JobId] = set()
        self.last_used = now

    def has_room(self) -> bool:
        return self.stage is Stage.READY and not self.worn and len(self.jobs) < self.slots


class _Waiting(msgspec.Struct, frozen=True, kw_only=True):
    job: JobId
    model: ModelId
    need: Mapping[PoolId, int]
    owner: str
    pinned: bool
    arrived: float


class Scheduler:
    """Decides; never acts. One owner calls `on`, all else is read-only."""

    def __init__(self, budget: MemoryBudget, *, patience_s: float = 5.0) -> None:
        self.budget = budget
        self._patience_s = patience_s
        self._waiting: dict[JobId, _Waiting] = {}
        self._residents: dict[ModelId, _Resident] = {}
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
        """Return the bytes per pool that loading, ready and leaving models hold."""
        return add(resident.held for resident in self._residents.values())

    def stage(self, model: ModelId) -> Stage | None:
        """Return where a model is in its life, None when it is absent."""
        resident = self._residents.get(model)
        return resident.stage if resident else None

    def jobs_on(self, model: ModelId) -> int:
        """Return how many jobs run on a model."""
        resident = self._residents.get(model)
        return len(resident.jobs) if resident else 0

    def last_used(self, model: ModelId) -> float:
        """Return when a model was last granted or left by a job; 0 when it is absent."""
        resident = self._residents.get(model)
        return resident.last_used if resident else 0.0

    def residents(self) -> tuple[ModelId, ...]:
        """Return the models that are loading, ready or leaving."""
        return tuple(self._residents)

    def _note(self, event: SchedulerEvent, now: float) -> list[Action]:
        match event:
            case Submitted():
                return self._submitted(event, now)
            case LoadEnded():
                return self._load_ended(event, now)
            case Unload(model):
                return self._evict_idle([model])
            case Shutdown():
                return self._shutdown()
            case _:
                self._record(event, now)
        return []

    def _record(self, event: Finished | Withdrawn | Loaded | Gone | Worn | Tick, now: float) -> None:
        match event:
            case Finished(job):
                self._finished(job, now)
            case Withdrawn(job):
                self._waiting.pop(job, None)
            case Loaded():
                self._loaded(event, now)
            case Gone():
                self._gone(event, now)
            case Worn(model):
                if model in self._residents:
                    self._residents[model].worn = True
            case Tick():
                pass

    def _submitted(self, event: Submitted, now: float) -> list[Action]:
        if self._closing:
            return [Refuse(event.job, ShuttingDown("the server is shutting down").to_data())]
        arrived = now if event.since is None else event.since
        self._waiting[event.job] = _Waiting(
            job=event.job,
            model=event.model,
            need=event.need,
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
        resident = self._residents.get(model) if model is not None else None
        if resident is not None:
            resident.jobs.discard(job)
            resident.last_used = now

    def _loaded(self, event: Loaded, now: float) -> None:
        resident = self._residents.get(event.model)
        if resident is not None and resident.stage is Stage.LOADING:
            resident.stage, resident.slots, resident.held = Stage.READY, max(1, event.slots), event.held
            resident.last_used = now
            # Those who wait for its next load, should it have to leave before, need what was measured.
            for job, entry in self._waiting.items():
                if entry.model == event.model:
                    self._waiting[job] = msgspec.structs.replace(entry, need=event.held)

    def _load_ended(self, event: LoadEnded, now: float) -> list[Action]:
        self._residents.pop(event.model, None)
        pause = self._backoff.load_failed(event.model, event.error.message, now)
        error = msgspec.structs.replace(event.error, facts={**event.error.facts, "retry_after": pause})
        refused = [entry.job for entry in self._waiting.values() if entry.model == event.model]
        for job in refused:
            del self._waiting[job]
        return [Refuse(job, error) for job in refused]

    def _gone(self, event: Gone, now: float) -> None:
        resident = self._residents.pop(event.model, None)
        for job in resident.jobs if resident else ():
            self._turns.ended(job)
            self._where.pop(job, None)
        if event.died:
            self._backoff.died(event.model, f"its worker process ended unexpectedly ({event.how})", now)

    def _evict_idle(self, models: Iterable[ModelId]) -> list[Action]:
        actions: list[Action] = []
        for model in models:
            resident = self._residents.get(model)
            if resident is not None and resident.stage is Stage.READY and not resident.jobs:
                resident.stage = Stage.LEAVING
                actions.append(Evict(model))
        return actions

    def _shutdown(self) -> list[Action]:
        self._closing = True
        error = ShuttingDown("the server is shutting down").to_data()
        refused: list[Action] = [Refuse(job, error) for job in self._waiting]
        self._waiting.clear()
        return refused

    def _plan(self, now: float) -> list[Action]:
        if self._closing:
            return self._evict_idle(self._residents)
        actions = self._evict_idle(model for model, resident in self._residents.items() if resident.worn)
        actions += self._shed()
        held_back: Set[ModelId] = frozenset()
        loads_blocked = False
        for entry in self._line():
            resident = self._residents.get(entry.model)
            if resident is not None:
                actions += self._grant(entry, resident, held_back, now)
                continue
            refusal = self._refusal(entry, now)
            if refusal is not None:
                del self._waiting[entry.job]
                actions.append(refusal)
            elif not loads_blocked and not self._backoff.is_pausing(entry.model, now):
                placed = self._place(entry, now)
                actions += placed
                if entry.model not in self._residents:
                    loads_blocked = True
                    if now - entry.arrived >= self._patience_s:
                        held_back = self._in_the_way(entry)
        return actions

    def _line(self) -> list[_Waiting]:
        """Return those who wait in the order in which they are asked for."""
        waiting = list(self._waiting.values())
        if len({entry.owner for entry in waiting}) < 2:
            return waiting
        # A model that was loaded or cleared for one must not go again because another's turn has come meanwhile.
        wanted = {resident.wanted_by for resident in self._residents.values()}
        clearing = self._clearing[0] if self._clearing else None
        return sorted(self._turns.order(waiting), key=lambda entry: (entry.job not in wanted, entry.job != clearing))

    def _grant(self, entry: _Waiting, resident: _Resident, held_back: Set[ModelId], now: float) -> list[Action]:
        if not resident.has_room() or entry.model in held_back:
            return []
        del self._waiting[entry.job]
        resident.jobs.add(entry.job)
        resident.last_used = now
        self._where[entry.job] = entry.model
        self._turns.granted(entry.job, entry.owner)
        return [Grant(entry.job, entry.model)]

    def _refusal(self, entry: _Waiting, now: float) -> Refuse | None:
        pinned = add(r.held for r in self._residents.values() if r.pinned and r.stage is not Stage.LEAVING)
        lacking = self.budget.lacking(pinned, entry.need)
        if lacking is not None:
            needed, limit = entry.need[lacking], self.budget.limits.get(lacking, 0)
            kept = f", of which pinned models hold {readable(pinned[lacking])}" if pinned.get(lacking) else ""
            text = (
                f"model {entry.model!r} needs {readable(needed)} of {lacking}, the limit is {readable(limit)}{kept}; "
                f"use a smaller model or quantisation, or raise the limit in [memory]"
            )
            error = DoesNotFit(text, model=entry.model, pool=lacking, needed=needed, limit=limit)
            return Refuse(entry.job, error.to_data())
        trouble = self._backoff.refusal(entry.model, now)
        return Refuse(entry.job, trouble.to_data()) if trouble is not None else None

    def _place(self, entry: _Waiting, now: float) -> list[Action]:
        """Load the model or make room for it; a model that is not among the residents afterwards has to wait."""
        used = self.used()
        if self.budget.lacking(used, entry.need) is None:
            self._residents[entry.model] = _Resident(entry, now)
            return [Load(entry.model)]
        victims = choose(entry.need, self._staying(), self._idle(), self.budget)
        return self._evict_idle(victims or ())

    def _staying(self) -> dict[PoolId, int]:
        """Return what models hold that have not been asked to leave."""
        return add(r.held for r in self._residents.values() if r.stage is not Stage.LEAVING)

    def _idle(self) -> list[Idle]:
        return self._candidates(lambda resident: not resident.jobs)

    def _candidates(self, fit: Callable[[_Resident], bool]) -> list[Idle]:
        return [
            Idle(model=model, held=resident.held, last_used=resident.last_used)
            for model, resident in self._residents.items()
            if resident.stage is Stage.READY and not resident.pinned and fit(resident)
        ]

    def _in_the_way(self, entry: _Waiting) -> frozenset[ModelId]:
        """Return the ready models, busy ones too, whose leaving would make room for a job that waited too long."""
        candidates = self._candidates(lambda _: True)
        job, chosen = self._clearing or (None, frozenset())
        if job == entry.job:
            kept = [idle for idle in candidates if idle.model in chosen]
            if choose(entry.need, self._staying(), kept, self.budget) is not None:
                return chosen
        found = frozenset(choose(entry.need, self._staying(), candidates, self.budget) or ())
        self._clearing = (entry.job, found)
        return found

    def _shed(self) -> list[Action]:
        """Let idle models go when measuring has shown that all together hold more than the budget allows."""
        used = self._staying()
        over = {pool: 1 for pool, count in used.items() if count > self.budget.limits.get(pool, 0)}
        if not over:
            return []
        newest = max((r.last_used for r in self._residents.values()), default=0.0)
        spare = [idle for idle in self._idle() if idle.last_used < newest]
        victims = choose(over, used, spare, self.budget)
        return self._evict_idle(victims if victims is not None else [idle.model for idle in spare])
