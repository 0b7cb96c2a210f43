"""Which models must go: a table, and random cases against what trying every choice says."""

import itertools
import random

import pytest

from server.core.memory import RAM, MemoryBudget, PoolId, add, vram
from server.core.models import ModelId
from server.registry.eviction import Idle, choose

GPU = vram(0)
Held = dict[PoolId, int]


def idle(name: str, last_used: float, **held: int) -> Idle:
    return Idle(model=ModelId(name), held=pools(**held), last_used=last_used)


def pools(**counts: int) -> Held:
    return {RAM if name == "ram" else GPU: count for name, count in counts.items()}


def budget(**limits: int) -> MemoryBudget:
    return MemoryBudget(limits=pools(**limits))


OLD, MID, NEW = idle("old", 1, ram=2), idle("mid", 2, ram=4), idle("new", 3, ram=4)


@pytest.mark.parametrize(
    ("need", "used", "candidates", "limits", "victims"),
    [
        pytest.param({"ram": 5}, {"ram": 5}, [OLD], {"ram": 10}, [], id="it fits already"),
        pytest.param({"ram": 2}, {"ram": 10}, [NEW, OLD, MID], {"ram": 10}, ["old"], id="oldest use first"),
        pytest.param({"ram": 3}, {"ram": 10}, [OLD, MID, NEW], {"ram": 10}, ["mid"], id="who proves needless stays"),
        pytest.param({"ram": 6}, {"ram": 10}, [OLD, MID, NEW], {"ram": 10}, ["old", "mid"], id="as many as needed"),
        pytest.param({"ram": 7}, {"ram": 10}, [OLD, MID], {"ram": 10}, None, id="not even all suffice"),
        pytest.param({"ram": 11}, {}, [], {"ram": 10}, None, id="can never fit"),
        pytest.param({"ram": 0}, {"ram": 20}, [OLD], {"ram": 10}, [], id="nothing needed, nobody goes"),
        pytest.param({"gpu": 1}, {}, [], {"ram": 10}, None, id="a pool without a limit has none to give"),
        pytest.param(
            {"gpu": 4}, {"ram": 9, "gpu": 5}, [OLD, idle("card", 9, gpu=5)], {"ram": 10, "gpu": 6}, ["card"],
            id="who holds nothing of what lacks stays",
        ),
        pytest.param(
            {"ram": 5, "gpu": 5}, {"ram": 5, "gpu": 5}, [idle("g", 1, gpu=5), idle("r", 2, ram=5)],
            {"ram": 6, "gpu": 6}, ["r", "g"], id="one for each pool, the older one holding the second pool",
        ),
    ],
)  # fmt: skip
def test_choices(
    need: dict[str, int],
    used: dict[str, int],
    candidates: list[Idle],
    limits: dict[str, int],
    victims: list[str] | None,
) -> None:
    assert choose(pools(**need), pools(**used), candidates, budget(**limits)) == victims


def test_the_arguments_stay_as_they_are() -> None:
    used = pools(ram=10)
    candidates = [OLD, MID]
    choose(pools(ram=3), used, candidates, budget(ram=10))
    assert used == pools(ram=10)
    assert candidates == [OLD, MID]


@pytest.mark.parametrize("seed", range(30))
def test_random_cases_against_every_choice(seed: int) -> None:
    dice = random.Random(seed)
    for _ in range(50):
        candidates = [
            idle(f"m{k}", dice.random(), ram=dice.randrange(6), gpu=dice.randrange(6)) for k in range(dice.randrange(5))
        ]
        busy = pools(ram=dice.randrange(6), gpu=dice.randrange(6))
        used = add([busy, *(candidate.held for candidate in candidates)])
        limits = budget(ram=dice.randrange(12), gpu=dice.randrange(12))
        need = pools(ram=dice.randrange(8), gpu=dice.randrange(8))

        def fits(leaving: tuple[Idle, ...]) -> bool:
            left = {pool: count - sum(x.held.get(pool, 0) for x in leaving) for pool, count in used.items()}  # noqa: B023
            return limits.lacking(left, need) is None  # noqa: B023

        chosen = choose(need, used, candidates, limits)
        ways = [s for n in range(len(candidates) + 1) for s in itertools.combinations(candidates, n) if fits(s)]
        if chosen is None:
            assert not ways
            continue
        victims = tuple(candidate for candidate in candidates if candidate.model in chosen)
        assert len(victims) == len(chosen)
        assert fits(victims)
        for spared in victims:
            assert not fits(tuple(v for v in victims if v is not spared)), "nobody leaves for nothing"
