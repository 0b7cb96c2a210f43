"""Pauses after failures, on a made-up clock."""

import pytest

from server.core.models import ModelId
from server.service.backoff import MAX_PAUSE_S, Backoff

MODEL, OTHER = ModelId("m"), ModelId("o")


def test_failed_loads_pause_for_longer_and_longer() -> None:
    backoff, now, pauses = Backoff(), 0.0, []
    for _ in range(9):
        pauses.append(backoff.load_failed(MODEL, "bad file", now))
        now += pauses[-1]
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_the_first_crash_is_free() -> None:
    backoff, now, pauses = Backoff(), 0.0, []
    for _ in range(9):
        pauses.append(backoff.died(MODEL, "killed", now))
        now += pauses[-1]
    assert pauses == [0, 1, 2, 4, 8, 16, 32, 60, 60]


@pytest.mark.parametrize("name", ["load_failed", "died"])
def test_a_year_of_failures_does_not_overflow(name: str) -> None:
    backoff, now = Backoff(), 0.0
    for _ in range(3000):
        now += getattr(backoff, name)(MODEL, "bad", now)
    assert getattr(backoff, name)(MODEL, "bad", now) == MAX_PAUSE_S


def test_jobs_wait_after_a_crash_or_two_and_are_refused_after_a_failed_load() -> None:
    backoff = Backoff()
    backoff.died(MODEL, "killed", 0.0)
    backoff.died(MODEL, "killed", 0.0)
    assert backoff.is_pausing(MODEL, 0.5)
    assert backoff.refusal(MODEL, 0.5) is None
    backoff.load_failed(OTHER, "bad tensor", 0.0)
    refusal = backoff.refusal(OTHER, 0.25)
    assert refusal is not None
    assert refusal.fact("retry_after") == 0.75
    assert "bad tensor" in refusal.message


def test_many_crashes_in_a_row_refuse_too() -> None:
    backoff = Backoff()
    for _ in range(6):
        backoff.died(MODEL, "killed", 0.0)
    assert backoff.refusal(MODEL, 0.0) is not None


def test_a_pause_ends_and_other_models_have_none() -> None:
    backoff = Backoff()
    pause = backoff.load_failed(MODEL, "bad", 10.0)
    assert not backoff.is_pausing(OTHER, 10.0)
    assert backoff.refusal(OTHER, 10.0) is None
    assert not backoff.is_pausing(MODEL, 10.0 + pause)
    assert backoff.refusal(MODEL, 10.0 + pause) is None


def test_a_minute_of_peace_is_a_new_start() -> None:
    backoff = Backoff()
    for _ in range(5):
        pause = backoff.load_failed(MODEL, "bad", 0.0)
    assert backoff.load_failed(MODEL, "bad", pause + MAX_PAUSE_S) == 1
