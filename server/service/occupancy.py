"""Who takes which part of the memory budget: models, their running jobs, a spare worker. Pure."""

from collections.abc import Callable, Iterable, Mapping

import msgspec

from server.core.errors import DoesNotFit
from server.core.jobs import JobId
from server.core.memory import MemoryBudget, PoolId, add, readable
from server.core.models import ModelId
from server.registry.eviction import Idle, choose
from server.service.decisions import Action, Evict, Stage
from server.service.spare import NOTHING, Spare


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A job that waits. `need` is what its model holds, `working` what the job takes besides: bytes per pool."""

    job: JobId
    model: ModelId
    need: Mapping[PoolId, int]
    working: Mapping[PoolId, int]
    runtime: str
    owner: str
    pinned: bool
    arrived: float


class Resident:
    """A model from the decision to load it until its process is gone, with the jobs that run on it."""

    def __init__(self, entry: Entry, now: float) -> None:
        self.stage = Stage.LOADING
        self.held: Mapping[PoolId, int] = entry.need
        self.reserved: Mapping[PoolId, int] = entry.working
        self.pinned = entry.pinned
        self.wanted_by = entry.job
        self.slots = 0
        self.worn = False
        self.jobs: dict[JobId, Mapping[PoolId, int]] = {}
        self.last_used = now

    def total(self) -> dict[PoolId, int]:
        """Return what the model and its jobs hold; while it loads, also what the job takes that it is loaded for."""
        return add([self.held, self.reserved, *self.jobs.values()])

    def has_slot(self) -> bool:
        """Tell whether it may be given a job, as far as slots go."""
        return self.stage is Stage.READY and not self.worn and len(self.jobs) < self.slots

    def loaded(self, slots: int, held: Mapping[PoolId, int], now: float) -> None:
        """Note that it is ready and what it was measured to hold."""
        self.stage, self.slots, self.held = Stage.READY, max(1, slots), held
        self.reserved = NOTHING
        self.last_used = now


class Occupancy:
    """The residents and the spare, and what of the budget they leave."""

    def __init__(self, budget: MemoryBudget) -> None:
        self.budget = budget
        self.residents: dict[ModelId, Resident] = {}
        self.spare = Spare()

    def used(self) -> dict[PoolId, int]:
        """Return what is taken, by what is about to leave, too."""
        return add([self._models(), self.spare.held])

    def lacks(self, need: Mapping[PoolId, int], *, into_spare: bool = False) -> PoolId | None:
        """Return the first pool that has no room for `need` now, None if there is. A spare that is taken gives its."""
        return self.budget.lacking(self._models() if into_spare else self.used(), need)

    def pinned(self, besides: ModelId) -> dict[PoolId, int]:
        """Return what other models hold that never leave."""
        staying = (resident for model, resident in self.residents.items() if model != besides)
        return add(resident.held for resident in staying if resident.pinned and resident.stage is not Stage.LEAVING)

    def make_room(self, entry: Entry, need: Mapping[PoolId, int], *, keep_spare: bool = False) -> list[Action]:
        """Ask the spare and idle models to leave, if that makes room for `need` of a job; oldest use goes first."""
        staying = self._staying()
        if self.budget.lacking(staying if keep_spare else add([staying, self.spare.staying]), need) is None:
            return []  # those who leave already suffice
        victims = choose(need, staying, self.idle(besides=entry.model), self.budget)
        if victims is None:
            return []
        return [*([] if keep_spare else self.spare.leave()), *self.evict(victims)]

    def in_the_way(self, entry: Entry, need: Mapping[PoolId, int], before: Iterable[ModelId]) -> frozenset[ModelId]:
        """Return ready models, busy ones too, whose leaving would make room; those of `before` if they suffice."""
        candidates = self._candidates(lambda _: True, besides=entry.model)
        staying, old = self._staying(), frozenset(before)
        if choose(need, staying, [idle for idle in candidates if idle.model in old], self.budget) is not None:
            return old
        return frozenset(choose(need, staying, candidates, self.budget) or ())

    def shed(self) -> list[Action]:
        """Let the spare and idle models go when measuring has shown that all together hold more than is allowed."""
        if not self._over(add([self._staying(), self.spare.staying])):
            return []
        actions: list[Action] = [*self.spare.leave()]
        staying = self._staying()
        over = self._over(staying)
        if not over:
            return actions
        newest = max((resident.last_used for resident in self.residents.values()), default=0.0)
        idle = [each for each in self.idle() if each.last_used < newest]
        victims = choose(over, staying, idle, self.budget)
        return actions + self.evict(victims if victims is not None else [each.model for each in idle])

    def evict(self, models: Iterable[ModelId]) -> list[Action]:
        """Ask these models to leave, as far as they are ready and idle."""
        actions: list[Action] = []
        for model in models:
            resident = self.residents.get(model)
            if resident is not None and resident.stage is Stage.READY and not resident.jobs:
                resident.stage = Stage.LEAVING
                actions.append(Evict(model))
        return actions

    def idle(self, besides: ModelId | None = None) -> list[Idle]:
        """Return the models that may be asked to leave."""
        return self._candidates(lambda resident: not resident.jobs, besides)

    def is_quiet(self) -> bool:
        """Tell whether no job runs and no model is being loaded."""
        return not any(each.jobs or each.stage is Stage.LOADING for each in self.residents.values())

    def _models(self) -> dict[PoolId, int]:
        return add(resident.total() for resident in self.residents.values())

    def _staying(self) -> dict[PoolId, int]:
        """Return what models and jobs hold that have not been asked to leave."""
        return add(each.total() for each in self.residents.values() if each.stage is not Stage.LEAVING)

    def _candidates(self, fit: Callable[[Resident], bool], besides: ModelId | None = None) -> list[Idle]:
        return [
            Idle(model=model, held=resident.total(), last_used=resident.last_used)
            for model, resident in self.residents.items()
            if resident.stage is Stage.READY and not resident.pinned and model != besides and fit(resident)
        ]

    def _over(self, used: Mapping[PoolId, int]) -> dict[PoolId, int]:
        return {pool: 1 for pool, count in used.items() if count > self.budget.limits.get(pool, 0)}


def does_not_fit(
    entry: Entry, held: Mapping[PoolId, int], pinned: Mapping[PoolId, int], budget: MemoryBudget, pool: PoolId
) -> DoesNotFit:
    """Return the error of a job whose model (`held`) and work do not fit beside pinned models, with the numbers."""
    needed, limit = held.get(pool, 0) + entry.working.get(pool, 0), budget.limits.get(pool, 0)
    kept = f", of which pinned models hold {readable(pinned[pool])}" if pinned.get(pool) else ""
    if budget.lacking(pinned, held) is None:
        what = f"this request needs {readable(needed)} of {pool} with model {entry.model!r}"
        hint = "ask for a smaller size or batch"
    else:
        what = f"model {entry.model!r} needs {readable(needed)} of {pool}"
        hint = "use a smaller model or quantisation"
    text = f"{what}, the limit is {readable(limit)}{kept}; {hint}, or raise the limit in [memory]"
    return DoesNotFit(text, model=entry.model, pool=pool, needed=needed, limit=limit)
