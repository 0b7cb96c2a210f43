"""Turns of sets of adapters: one at a time, all in time, whoever comes and goes."""

import random

import pytest

from server.core.adapters import AdapterSet
from server.engines.text.prefix import Scope
from server.engines.text.sequences import CachedSequence
from server.engines.text.turns import Turns

A: AdapterSet = ((0, 1.0),)
B: AdapterSet = ((1, 1.0),)
C: AdapterSet = ((0, 0.5),)


def sequences(*sets: AdapterSet) -> list[CachedSequence]:
    made = []
    for number, adapters in enumerate(sets):
        sequence = CachedSequence(number, 8)
        sequence.scope = Scope("", adapters)
        made.append(sequence)
    return made


def taken(turns: Turns, *sets: AdapterSet) -> AdapterSet:
    """Return whose step it is, and let it be computed."""
    chosen = turns.of(sequences(*sets))
    (adapters,) = {sequence.scope.adapters for sequence in chosen}
    assert len(chosen) == sets.count(adapters)
    turns.served(adapters)
    return adapters


def test_sequences_of_one_set_are_all_computed() -> None:
    turns = Turns(2)
    some = sequences((), (), ())
    assert turns.of(some) is some
    assert turns.of([]) == []
    assert taken(turns, A, A) == A


def test_sets_take_turns_of_some_steps() -> None:
    turns = Turns(2)
    assert [taken(turns, A, B, A, C) for _ in range(8)] == [A, A, B, B, C, C, A, A]


def test_to_look_is_not_to_be_served() -> None:
    turns = Turns(1)
    some = sequences(A, B)
    assert [turns.of(some)[0].id for _ in range(5)] == [0] * 5


def test_a_set_that_has_gone_gives_its_turn_away() -> None:
    turns = Turns(4)
    assert taken(turns, A, B) == A
    assert [taken(turns, B, C) for _ in range(5)] == [B, B, B, B, C]


def test_one_that_comes_later_stands_last() -> None:
    turns = Turns(1)
    assert taken(turns, A, B) == A
    assert [taken(turns, C, A, B) for _ in range(3)] == [B, A, C]


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_nobody_starves(steps: int) -> None:
    """Whatever sets come and go beside it, one that stays is served at least once in a turn of each possible other."""
    chance, turns, since = random.Random(steps), Turns(steps), 0
    for _ in range(2000):
        there = [((number, 1.0),) for number in range(1, 6) if chance.random() < 0.6]
        chosen = taken(turns, (), *there)
        since = 0 if chosen == () else since + 1
        assert since <= steps * 5
