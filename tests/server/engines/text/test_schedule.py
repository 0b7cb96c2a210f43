import pytest

from server.engines.text.schedule import (
    BURST_STALL_S,
    EFFICIENT_CHUNK,
    LONGEST_STALL_S,
    SAME_BURST_S,
    SMALLEST_CHUNK,
    STALL_S,
    Decode,
    Pace,
    Pending,
    Prefill,
    came_together,
    next_step,
)


def step(
    prompts: list[Pending],
    running: int = 0,
    stalled_s: float = 0.0,
    after_decode: bool = False,
    rate: float | None = None,
    burst: bool = False,
) -> Prefill | Decode | None:
    pace = Pace()
    if rate is not None:
        pace.observe(int(rate), 1.0)
    return next_step(
        prompts,
        running=running,
        stalled_s=stalled_s,
        burst=burst,
        after_decode=after_decode,
        pace=pace,
        batch=512,
    )


def test_nothing_to_do() -> None:
    assert step([]) is None


def test_decode_when_no_prompt_waits() -> None:
    assert step([], running=3) == Decode()


def test_whole_batches_when_nobody_runs() -> None:
    assert step([Pending(2, 300), Pending(0, 400)]) == Prefill((Pending(0, 212), Pending(2, 300)))


def test_parts_are_in_ascending_order_of_their_sequence_whoever_came_first() -> None:
    plan = step([Pending(5, 10), Pending(1, 10), Pending(3, 10)])
    assert plan == Prefill((Pending(1, 10), Pending(3, 10), Pending(5, 10)))


def test_the_oldest_prompt_is_served_first() -> None:
    plan = step([Pending(7, 600), Pending(0, 5)])
    assert plan == Prefill((Pending(7, 512),))


@pytest.mark.parametrize(
    ("rate", "stalled_s", "chunk"),
    [
        (1000, 0.0, 1000 * STALL_S),
        (1000, 0.1, 1000 * (STALL_S - 0.1)),
        (100_000, 0.0, 512),
        (200, 0.0, EFFICIENT_CHUNK),
        (100, 0.0, 100 * LONGEST_STALL_S),
        (SMALLEST_CHUNK / 2, 0.0, SMALLEST_CHUNK),
    ],
)
def test_the_chunk_keeps_running_streams_below_the_stall_target(rate: float, stalled_s: float, chunk: int) -> None:
    """Or is as small as pays, or as short as can be borne."""
    pace = Pace()
    pace.observe(1000, 1000 / rate)
    plan = next_step(
        [Pending(1, 5000)], running=1, stalled_s=stalled_s, burst=False, after_decode=True, pace=pace, batch=512
    )
    assert plan == Prefill((Pending(1, pytest.approx(chunk, abs=1)),))


def test_a_guess_is_used_before_anything_was_measured() -> None:
    assert step([Pending(1, 5000)], running=1) == Prefill((Pending(1, EFFICIENT_CHUNK),))


def test_decode_when_streams_have_waited_long_enough() -> None:
    assert step([Pending(1, 5000)], running=1, stalled_s=STALL_S) == Decode()
    assert step([Pending(1, 5000)], running=1, stalled_s=STALL_S * 0.95, rate=1000) == Decode()


def test_both_sides_make_progress_however_slow_the_machine() -> None:
    """A pretended slow machine: every prompt step takes longer than the target, yet the two alternate."""
    for burst in (False, True):
        kinds = []
        after_decode = False
        for _ in range(6):
            stalled_s = 0.0 if after_decode else 2.0 + BURST_STALL_S
            plan = step(
                [Pending(1, 5000)],
                running=1,
                stalled_s=stalled_s,
                after_decode=after_decode,
                rate=32,
                burst=burst,
            )
            kinds.append(type(plan))
            after_decode = isinstance(plan, Decode)
        assert kinds == [Decode, Prefill] * 3


def test_prompts_of_the_same_burst_come_before_next_tokens() -> None:
    prompts = [Pending(1, 5000)]
    assert step(prompts, running=2, stalled_s=BURST_STALL_S * 0.9, rate=100, burst=True) == Prefill((Pending(1, 512),))
    assert step(prompts, running=2, stalled_s=BURST_STALL_S, rate=100, burst=True) == Decode()


def test_what_came_together() -> None:
    def together(*prompts_since: float) -> bool:
        return came_together(answering_since=[5.0, 6.0], prompts_since=prompts_since)

    assert together(4.0, 4.1)
    assert together(4.0, 5.0 + SAME_BURST_S)
    assert not together(4.0, 5.0 + 2 * SAME_BURST_S)
    assert together()
    assert came_together(answering_since=[], prompts_since=[1.0])


def test_the_pace_follows_what_is_measured_and_ignores_tiny_steps() -> None:
    pace = Pace()
    pace.observe(SMALLEST_CHUNK - 1, 1e-9)
    assert pace.tokens_in(1.0) == EFFICIENT_CHUNK
    pace.observe(100, 1.0)
    assert pace.tokens_in(2.0) == 200
    for _ in range(30):
        pace.observe(400, 1.0)
    assert pace.tokens_in(1.0) == pytest.approx(400, abs=1)
    assert pace.tokens_in(-1.0) == 0
