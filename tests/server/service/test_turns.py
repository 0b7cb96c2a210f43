"""Whose turn it is: owners take turns, each owner's jobs keep their order."""

import msgspec
import pytest

from server.core.jobs import JobId
from server.service.turns import Turns


class Entry(msgspec.Struct, frozen=True):
    """A job in line."""

    job: str
    owner: str


def line(text: str) -> list[Entry]:
    return [Entry(word, word[0]) for word in text.split()]


def told(entries: list[Entry]) -> str:
    return " ".join(entry.job for entry in entries)


@pytest.mark.parametrize(
    ("running", "waiting", "order"),
    [
        ("", "", ""),
        ("", "a1 a2 a3", "a1 a2 a3"),
        ("a0", "a1 a2 a3", "a1 a2 a3"),
        ("", "a1 a2 a3 b1", "a1 b1 a2 a3"),
        ("a0", "a1 a2 b1", "b1 a1 a2"),
        ("a0", "a1 a2 b1 b2", "b1 b2 a1 a2"),
        ("a0 b0", "a1 b1 a2 b2", "a1 b1 a2 b2"),
        ("b0 a0", "a1 b1 a2 b2", "b1 a1 b2 a2"),
        ("a0 a00 b0", "a1 b1 b2 c1 c2", "c1 c2 b1 a1 b2"),
    ],
)
def test_the_order(running: str, waiting: str, order: str) -> None:
    turns = Turns()
    for entry in line(running):
        turns.granted(JobId(entry.job), entry.owner)
    assert told(turns.order(line(waiting))) == order


def test_who_was_served_longest_ago_is_next() -> None:
    turns = Turns()
    for entry in line("a0 b0"):
        turns.granted(JobId(entry.job), entry.owner)
        turns.ended(JobId(entry.job))
    assert told(turns.order(line("b1 a1 c1"))) == "c1 a1 b1"


def test_the_end_of_an_unknown_job_is_no_trouble() -> None:
    turns = Turns()
    turns.ended(JobId("x"))
    assert told(turns.order(line("a1"))) == "a1"
