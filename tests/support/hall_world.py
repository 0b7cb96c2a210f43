"""A made-up world for the scheduler: loads take time, jobs end, workers die, and every action is checked."""

import random

from server.core.errors import LoadFailed
from server.core.jobs import JobId
from server.core.memory import RAM, MemoryBudget, PoolId, add, vram
from server.core.models import ModelId
from server.service.decisions import (
    Action,
    Cool,
    Evict,
    Finished,
    Gone,
    Grant,
    Load,
    Loaded,
    LoadEnded,
    Refuse,
    SchedulerEvent,
    SpareGone,
    SpareReady,
    SpareStarted,
    SpareWanted,
    Submitted,
    Tick,
    Unload,
    Warm,
    Withdrawn,
    Worn,
)
from server.service.scheduler import Scheduler

GPU = vram(0)
PATIENCE_S = 5.0
FAILED = LoadFailed("bad file").to_data()


class World:
    """Carries out a scheduler's actions on a made-up clock and checks each of them against its promises."""

    def __init__(self, seed: int, *, faults: bool) -> None:
        self.dice = random.Random(seed)
        self.faults = faults
        self.limits: dict[PoolId, int] = {RAM: 12, GPU: 8}
        self.scheduler = Scheduler(MemoryBudget(limits=self.limits), patience_s=PATIENCE_S)
        self.needs = {
            ModelId(f"m{k}"): {RAM: self.dice.randrange(1, 11), GPU: self.dice.randrange(0, 8)} for k in range(5)
        }
        self.works = {
            model: {RAM: self.dice.randrange(0, 3)} if self.dice.random() < 0.5 else {} for model in self.needs
        }
        self.working: dict[JobId, dict[PoolId, int]] = {}
        self.for_whom: dict[ModelId, JobId] = {}
        self.spares: dict[int, dict[PoolId, int]] = {}
        self.slots = {model: self.dice.randrange(1, 4) for model in self.needs}
        self.stage: dict[ModelId, str] = {}
        self.running: dict[JobId, ModelId] = {}
        self.waiting: dict[JobId, tuple[ModelId, float]] = {}
        self.ended: set[JobId] = set()
        self.errors: dict[JobId, str] = {}
        self.longest = 0.0
        self.agenda: list[tuple[float, int, SchedulerEvent]] = []
        self.now = 0.0
        self._count = 0

    def after(self, seconds: float, event: SchedulerEvent) -> None:
        self._count += 1
        self.agenda.append((self.now + seconds, self._count, event))

    def submit(self, model: ModelId, owner: str = "") -> None:
        self._count += 1
        job = JobId(f"j{self._count}")
        self.waiting[job] = (model, self.now)
        self.working[job] = self.works.get(model, {})
        runtime = "warmed" if model in list(self.needs)[:3] else ""
        event = Submitted(
            job=job, model=model, need=self.needs[model], working=self.working[job], runtime=runtime, owner=owner
        )
        self.feed(event)

    def next_event(self) -> SchedulerEvent:
        self.agenda.sort(key=lambda entry: entry[:2])
        due, _, event = self.agenda.pop(0)
        self.now = max(self.now, due)
        return event

    def feed(self, event: SchedulerEvent) -> None:
        if not self.happens(event):
            return
        for action in self.scheduler.on(event, self.now):
            self.act(action)
        assert self._positive(self.scheduler.used()) == self._positive(self.held())
        for pool, count in self.scheduler.used().items():
            assert count <= self.limits[pool], "over budget"

    def held(self) -> dict[PoolId, int]:
        """Return what models, their jobs and spares hold; a model that loads has its job's room, too."""
        loading = (self.working[job] for model, job in self.for_whom.items() if self.stage.get(model) == "loading")
        running = (self.working[job] for job in self.running)
        return add([*(self.needs[model] for model in self.stage), *running, *loading, *self.spares.values()])

    def _positive(self, held: dict[PoolId, int]) -> dict[PoolId, int]:
        return {pool: count for pool, count in held.items() if count}

    def happens(self, event: SchedulerEvent) -> bool:
        """Let an event happen in the world; False when what it tells of is gone."""
        match event:
            case Finished(job) if job not in self.running:
                return False  # its worker died before
            case Withdrawn(job) if job not in self.waiting:
                return False
            case Gone(model=model, died=True) if self.stage.get(model) != "ready":
                return False  # it left by itself before
            case Finished(job):
                del self.running[job]
                self.end(job)
            case Withdrawn(job):
                del self.waiting[job]
                self.end(job)
            case Loaded(model=model):
                self.stage[model] = "ready"
            case LoadEnded(model=model):
                del self.stage[model]
            case Gone(model=model):
                self.gone(model)
            case SpareReady() | SpareGone():
                return self._happens_to_spare(event)
        return True

    def _happens_to_spare(self, event: SpareReady | SpareGone) -> bool:
        there = event.number in self.spares  # else a model has taken it
        if isinstance(event, SpareGone):
            self.spares.pop(event.number, None)
        return there

    def gone(self, model: ModelId) -> None:
        del self.stage[model]
        for job in [job for job, where in self.running.items() if where == model]:
            del self.running[job]
            self.end(job)

    def end(self, job: JobId) -> None:
        assert job not in self.ended, "a job ends once"
        self.ended.add(job)

    def act(self, action: Action) -> None:
        match action:
            case Grant(job, model):
                wanted, since = self.waiting.pop(job)
                assert wanted == model
                assert self.stage.get(model) == "ready", "no grant on an absent model"
                self.running[job] = model
                assert sum(where == model for where in self.running.values()) <= self.slots[model]
                self.longest = max(self.longest, self.now - since)
                self.after(self.dice.expovariate(1.0), Finished(job))
            case Refuse(job, error):
                del self.waiting[job]
                self.errors[job] = error.code
                self.end(job)
            case Load(model, into_spare):
                assert model not in self.stage, "no load of a model that is there"
                self.stage[model] = "loading"
                self.for_whom[model] = next(job for job, (wanted, _) in self.waiting.items() if wanted == model)
                if into_spare:
                    assert len(self.spares) == 1, "the spare is there"
                    self.spares.clear()
                self.after(self.dice.random() * 2, self.outcome_of_load(model))
            case Evict(model):
                assert self.stage[model] == "ready"
                assert model not in self.running.values(), "no eviction of a busy model"
                self.stage[model] = "leaving"
                self.after(self.dice.random(), Gone(model=model))
            case Warm() | Cool():
                self._act_on_spare(action)

    def _act_on_spare(self, action: Warm | Cool) -> None:
        match action:
            case Warm(number, _):
                assert not self.spares, "one spare at a time"
                self.spares[number] = {RAM: 2}
                self.after(self.dice.random(), SpareStarted(number))
                self.after(1 + self.dice.random(), SpareReady(number=number, held={RAM: 2}))
            case Cool(number):
                assert number in self.spares
                self.after(self.dice.random(), SpareGone(number=number))

    def outcome_of_load(self, model: ModelId) -> SchedulerEvent:
        if self.faults and self.dice.random() < 0.1:
            return LoadEnded(model=model, error=FAILED)
        return Loaded(model=model, slots=self.slots[model], held=self.needs[model])

    def mischief(self) -> None:
        if self.faults and self.dice.random() < 0.05:
            ready = [model for model, stage in self.stage.items() if stage == "ready"]
            if ready:
                self.feed(Gone(model=self.dice.choice(ready), died=True))
        if self.dice.random() < 0.1:
            self.feed(SpareWanted(runtime="warmed", need={RAM: 2}))
        if self.faults and self.spares and self.dice.random() < 0.01:
            self.feed(SpareGone(number=next(iter(self.spares)), died=True))
        if self.dice.random() < 0.05 and self.waiting:
            self.feed(Withdrawn(self.dice.choice(list(self.waiting))))
        if self.dice.random() < 0.02:
            self.feed(Unload(self.dice.choice(list(self.needs))))
        if self.faults and self.dice.random() < 0.02:
            self.feed(Worn(self.dice.choice(list(self.needs))))

    def come_to_rest(self) -> None:
        for _ in range(20_000):
            if not self.waiting and not self.running:
                return
            if self.agenda:
                self.feed(self.next_event())
            self.now += 0.25
            self.feed(Tick())
        raise AssertionError(f"jobs wait for ever: {self.waiting}")
