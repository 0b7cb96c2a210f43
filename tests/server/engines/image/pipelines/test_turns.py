"""A blocking call by steps: who runs when, and how it ends."""

import threading

import pytest

from server.engines.image.pipelines.turns import Abandoned, Turns


def counting(turns: Turns[int, str]) -> str:
    for number in range(3):
        turns.hand(number)
    return "done"


def test_events_come_one_by_one_and_then_the_result() -> None:
    turns: Turns[int, str] = Turns(counting)
    assert [turns.advance() for _ in range(5)] == [0, 1, 2, None, None]
    assert turns.result == "done"


def test_the_call_never_runs_while_the_caller_does() -> None:
    trace: list[str] = []

    def call(turns: Turns[int, None]) -> None:
        for number in range(2):
            trace.append(f"call {number}")
            turns.hand(number)
        trace.append("end")

    turns: Turns[int, None] = Turns(call)
    while (number := turns.advance()) is not None:
        trace.append(f"caller {number}")
    assert trace == ["call 0", "caller 0", "call 1", "caller 1", "end"]


def test_what_the_call_raises_reaches_the_caller() -> None:
    def call(turns: Turns[int, None]) -> None:
        turns.hand(1)
        raise ValueError("no")

    turns: Turns[int, None] = Turns(call)
    assert turns.advance() == 1
    with pytest.raises(ValueError, match="no"):
        turns.advance()
    assert turns.advance() is None


def test_closing_ends_the_call_where_it_waits() -> None:
    seen: list[str] = []

    def call(turns: Turns[int, None]) -> None:
        try:
            turns.hand(1)
        except Abandoned:
            seen.append("abandoned")
            raise
        finally:
            seen.append("cleaned")

    turns: Turns[int, None] = Turns(call)
    turns.advance()
    turns.close()
    turns.close()
    assert seen == ["abandoned", "cleaned"]
    assert not any(thread.name == "pipeline" for thread in threading.enumerate())


def test_closing_before_the_first_turn_starts_nothing() -> None:
    started: list[bool] = []
    turns: Turns[int, None] = Turns(lambda _: started.append(True))
    turns.close()
    assert started == []
