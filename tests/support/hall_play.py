"""A scheduler spoken to in short words; actions come back as short words. Time is made up."""

from collections.abc import Mapping

from server.core.jobs import JobId
from server.core.memory import RAM, MemoryBudget, PoolId
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
    Stage,
    Submitted,
    Tick,
    Unload,
    Warm,
)
from server.service.scheduler import Scheduler
from tests.support.hall_world import FAILED, GPU, PATIENCE_S


class Play:
    """A scheduler with 10 units of RAM, spoken to in short words; actions come back as short words."""

    def __init__(self, limits: Mapping[PoolId, int] | None = None) -> None:
        self.scheduler = Scheduler(MemoryBudget(limits=dict(limits or {RAM: 10})), patience_s=PATIENCE_S)
        self.now = 0.0
        self.refused: dict[str, Refuse] = {}

    def on(self, event: SchedulerEvent) -> list[str]:
        return [self._short(action) for action in self.scheduler.on(event, self.now)]

    def ask(
        self,
        job: str,
        model: str,
        need: int = 4,
        *,
        gpu: int = 0,
        working: int = 0,
        runtime: str = "",
        owner: str = "",
        pinned: bool = False,
        since: float | None = None,
    ) -> list[str]:
        pools = {RAM: need, GPU: gpu} if gpu else {RAM: need}
        submitted = Submitted(
            job=JobId(job),
            model=ModelId(model),
            need=pools,
            working={RAM: working} if working else {},
            runtime=runtime,
            owner=owner,
            pinned=pinned,
            since=since,
        )
        return self.on(submitted)

    def spare(self, held: int = 2, runtime: str = "image") -> None:
        """Have a spare worker started, and ready."""
        (warm,) = self.on(SpareWanted(runtime=runtime, need={RAM: held}))
        number = int(warm.split()[1])
        self.on(SpareStarted(number))
        assert self.on(SpareReady(number=number, held={RAM: held})) == []

    def spare_gone(self, number: int = 1, *, died: bool = False) -> list[str]:
        return self.on(SpareGone(number=number, died=died))

    def loaded(self, model: str, slots: int = 1, held: int = 4) -> list[str]:
        return self.on(Loaded(model=ModelId(model), slots=slots, held={RAM: held}))

    def failed(self, model: str) -> list[str]:
        return self.on(LoadEnded(model=ModelId(model), error=FAILED))

    def gone(self, model: str, *, died: bool = False) -> list[str]:
        return self.on(Gone(model=ModelId(model), died=died, how="killed"))

    def finished(self, job: str) -> list[str]:
        return self.on(Finished(JobId(job)))

    def unload(self, model: str) -> list[str]:
        return self.on(Unload(ModelId(model)))

    def later(self, seconds: float) -> list[str]:
        self.now += seconds
        return self.on(Tick())

    def ready(self, model: str, *, slots: int = 1, held: int = 4, pinned: bool = False) -> None:
        """Bring a model up and leave it idle; each use comes a second after the one before."""
        self.now += 1
        assert f"load {model}" in self.ask(f"first {model}", model, held, pinned=pinned)
        assert self.loaded(model, slots, held) == [f"grant first {model}"]
        assert self.finished(f"first {model}") == []

    def stage(self, model: str) -> Stage | None:
        return self.scheduler.stage(ModelId(model))

    def _short(self, action: Action) -> str:
        match action:
            case Grant(job, _):
                return f"grant {job}"
            case Refuse(job, error):
                self.refused[job] = action
                return f"refuse {job} {error.code}"
            case Load(model, into_spare):
                return f"load {model} into spare" if into_spare else f"load {model}"
            case Warm(number, _):
                return f"warm {number}"
            case Cool(number):
                return f"cool {number}"
            case Evict(model):
                return f"evict {model}"
