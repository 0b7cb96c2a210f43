"""When guesses are computed, and how many, by tables of measured times."""

import pytest

from server.engines.text.speculation import MARGIN, WIDTHS, Acceptance, Hope, StepTimes, best_width

CPU = {(1, 1): 31.0, (1, 4): 75.0, (1, 8): 150.0, (1, 16): 260.0, (4, 1): 75.0, (4, 4): 290.0, (4, 8): 600.0}
GPU = {(1, 1): 10.0, (1, 4): 10.5, (1, 8): 11.0, (1, 16): 12.0, (2, 1): 10.2, (2, 4): 11.0, (2, 8): 12.0, (2, 16): 14.0}


def times_of(table: dict[tuple[int, int], float]) -> StepTimes:
    times = StepTimes()
    for (replies, width), seconds in table.items():
        times.observe(replies, width, seconds)
    return times


@pytest.mark.parametrize(
    ("table", "rates", "room", "rows", "width"),
    [
        (CPU, [1.0], 99, 48, 16),
        (CPU, [0.9], 99, 48, 4),
        (CPU, [0.5], 99, 48, 1),
        (CPU, [0.0], 99, 48, 1),
        (CPU, [1.0], 15, 48, 4),
        (CPU, [1.0], 3, 48, 1),
        (CPU, [1.0], 99, 15, 4),
        (CPU, [1.0, 1.0, 1.0, 1.0], 99, 48, 1),
        (GPU, [0.5], 99, 48, 8),
        (GPU, [0.9], 99, 48, 16),
        (GPU, [0.1], 99, 48, 4),
        (GPU, [0.0], 99, 48, 1),
        (GPU, [0.9, 0.0], 99, 48, 16),
        (GPU, [0.9, 0.0], 99, 31, 8),
        ({}, [1.0], 99, 48, 1),
        # what was never measured is tried when it might pay
        ({(1, 1): 30.0}, [1.0], 99, 48, 4),
        ({(1, 1): 30.0}, [0.5], 99, 48, 1),
        ({(1, 1): 30.0, (1, 4): 75.0}, [1.0], 99, 48, 8),
        ({(1, 1): 30.0, (1, 4): 150.0}, [1.0], 99, 48, 1),
    ],
)
def test_widths(table: dict[tuple[int, int], float], rates: list[float], room: int, rows: int, width: int) -> None:
    hopes = [Hope(rate=rate) for rate in rates]
    choice = best_width(hopes, times_of(table), room=room, rows=rows)
    assert choice.width == width
    assert (choice.gain > MARGIN) == (width > 1)


@pytest.mark.parametrize(
    ("hope", "width", "tokens"),
    [
        (Hope(), 8, 1.0),
        (Hope(rate=1.0), 8, 8.0),
        (Hope(rate=0.5), 4, 1.875),
        (Hope(sure=3, length=3), 4, 4.0),
        (Hope(sure=3, length=3), 16, 4.0),
        (Hope(sure=9, length=9), 4, 4.0),
        (Hope(sure=2, rate=0.5), 4, 3.5),
        (Hope(rate=1.0, length=2), 8, 3.0),
    ],
)
def test_what_a_decode_brings(hope: Hope, width: int, tokens: float) -> None:
    assert hope.tokens(width) == pytest.approx(tokens)


def test_what_must_come_next_makes_up_for_what_cannot_be_guessed() -> None:
    assert best_width([Hope(sure=7, length=7)], times_of(GPU), room=99, rows=48).width == 8
    assert best_width([Hope(sure=2, length=2)], times_of(CPU), room=99, rows=48).width == 4
    assert best_width([Hope(sure=1, length=1)], times_of(CPU), room=99, rows=48).width == 1


def test_only_some_widths_may_be_open() -> None:
    hopes = [Hope(rate=1.0)]
    assert best_width(hopes, times_of(CPU), [4, 8], room=99, rows=48).width == 4
    assert best_width(hopes, times_of(CPU), [8], room=99, rows=48).width == 8
    assert best_width(hopes, times_of(CPU), [], room=99, rows=48).width == 1


def test_what_guessing_takes_counts() -> None:
    hopes = [Hope(rate=0.9)]
    assert best_width(hopes, times_of(GPU), room=99, rows=48, guess_s=0.1).width == 16
    assert best_width(hopes, times_of(GPU), room=99, rows=48, guess_s=4.0).width == 4
    assert best_width(hopes, times_of(GPU), room=99, rows=48, guess_s=9.0).width == 1


def test_a_width_that_never_pays_is_measured_ever_more_rarely() -> None:
    """In 20,000 steps of a machine on which wide decodes take twice as long as the same one by one."""
    times = StepTimes()
    wide = 0
    for _ in range(20_000):
        width = best_width([Hope(rate=1.0)], times, room=99, rows=48).width
        wide += width > 1
        times.observe(1, width, 10.0 * width * (2 if width > 1 else 1))
    assert 1 <= wide <= 10


def test_trust_is_earned_and_lost_within_few_tokens() -> None:
    acceptance = Acceptance()
    times = times_of(CPU)

    def wide() -> bool:
        return best_width([Hope(rate=acceptance.rate)], times, room=99, rows=48).width > 1

    assert not wide()
    for _ in range(4):
        acceptance.observe(right=True)
    assert wide()
    for _ in range(100):
        acceptance.observe(right=True)
    assert 0.99 < acceptance.rate <= 1
    for _ in range(6):
        acceptance.observe(right=False)
    assert not wide()


def test_times_are_smoothed_and_one_slow_step_weighs_little() -> None:
    times = StepTimes()
    assert times.of(1, 1) is None
    times.observe(1, 1, 1.0)
    times.observe(1, 1, 100.0)
    assert times.of(1, 1) == pytest.approx(1.3)
    for _ in range(40):
        times.observe(1, 1, 3.0)
    assert times.of(1, 1) == pytest.approx(3.0, rel=0.01)
    assert times.of(2, 1) is None
    assert times.of(1, 4) is None


@pytest.mark.parametrize("width", [1, *WIDTHS])
def test_old_times_are_forgotten(width: int) -> None:
    times = StepTimes()
    times.observe(1, width, 1.0)
    steps = 0
    while times.of(1, width) is not None:
        times.observe(2, 2, 1.0)
        steps += 1
        assert steps < 1000
    assert steps > 10
    times.observe(1, width, 5.0)
    assert times.of(1, width) == 5.0, "what was forgotten has no part in it"
