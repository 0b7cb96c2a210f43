"""Which idle models must go so that a newcomer fits: a pure question, asked more often than acted on."""

from collections.abc import Iterable, Mapping

import msgspec

from server.core.memory import MemoryBudget, PoolId
from server.core.models import ModelId


class Idle(msgspec.Struct, frozen=True, kw_only=True):
    """A model that may be asked to leave: loaded, without jobs, not pinned."""

    model: ModelId
    held: Mapping[PoolId, int]
    last_used: float


def choose(
    need: Mapping[PoolId, int],
    used: Mapping[PoolId, int],
    idle: Iterable[Idle],
    budget: MemoryBudget,
) -> list[ModelId] | None:
    """Return the models whose leaving makes `need` fit, None when even all of them do not suffice.

    Oldest use first; then those that turned out not to be needed are spared, newest use first. `used` is what all
    models hold now, the idle ones included.
    """
    left = dict(used)
    rest = sorted(idle, key=lambda entry: entry.last_used)
    victims: list[Idle] = []
    while (lacking := budget.lacking(left, need)) is not None:
        victim = next((entry for entry in rest if entry.held.get(lacking, 0) > 0), None)
        if victim is None:
            return None
        rest.remove(victim)
        victims.append(victim)
        _subtract(left, victim.held)
    return [victim.model for victim in _spare(victims, left, need, budget)]


def _spare(
    victims: list[Idle], left: dict[PoolId, int], need: Mapping[PoolId, int], budget: MemoryBudget
) -> list[Idle]:
    kept = list(victims)
    for victim in sorted(victims, key=lambda entry: entry.last_used, reverse=True):
        back = {pool: left.get(pool, 0) + count for pool, count in victim.held.items()}
        if budget.lacking({**left, **back}, need) is None:
            left.update(back)
            kept.remove(victim)
    return kept


def _subtract(left: dict[PoolId, int], held: Mapping[PoolId, int]) -> None:
    for pool, count in held.items():
        left[pool] = left.get(pool, 0) - count
