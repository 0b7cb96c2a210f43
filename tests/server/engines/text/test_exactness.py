"""What is concluded from decodes that were thrown away."""

import numpy as np
import pytest

from server.engines.text.exactness import LEAST_BOUND, SAFETY, TRIAL_SHARE, Exactness, Regime, Trial, regimes

WIDTH, SIZE = 4, 100
GUESS = np.array([7, 8, 9, 10], np.int32)


def rows_of(seed: int, replies: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 2, (replies, WIDTH, SIZE)).astype(np.float32)


def tried(regime: Regime, shift: float = 0.0, places: int = WIDTH, replies: int = 1) -> Trial:
    """Return a trial whose wide results lie by `shift` above the plain ones in one of the leading tokens."""
    plain = rows_of(1, replies)
    wide = plain.copy()
    for reply in range(replies):
        for place in range(WIDTH):
            wide[reply, place, plain[reply, place].argmax()] += shift
    trial = Trial(regime, [GUESS] * replies, wide)
    for place in range(places):
        assert trial.expects([int(GUESS[place])] * replies)
        trial.compare(plain[:, place])
    return trial


@pytest.mark.parametrize(
    ("width", "length", "bits"),
    [
        (4, 0, {8}),
        (4, 252, {8}),
        (4, 253, {8, 9}),
        (4, 255, {8, 9}),
        (4, 256, {9}),
        (16, 500, {9, 10}),
        (16, 5000, {13}),
    ],
)
def test_regimes_are_where_the_tokens_will_lie(width: int, length: int, bits: set[int]) -> None:
    assert regimes(2, width, length, adapted=True) == {Regime(2, width, each, True) for each in bits}


def test_what_is_the_same_bit_for_bit_is_exact() -> None:
    exactness = Exactness()
    regime = Regime(1, WIDTH, 8)
    assert exactness.of(regime) is None
    exactness.settle(tried(regime))
    assert exactness.of(regime) is True
    assert exactness.bound == 0
    for other in (Regime(1, 8, 8), Regime(1, WIDTH, 9), Regime(2, WIDTH, 8), Regime(1, WIDTH, 8, True)):
        assert exactness.of(other) is None


@pytest.mark.parametrize("replies", [1, 3])
def test_any_difference_counts(replies: int) -> None:
    exactness = Exactness()
    regime = Regime(replies, WIDTH, 8)
    trial = tried(regime, shift=0.5, places=1, replies=replies)
    assert trial.is_telling
    exactness.settle(trial)
    assert exactness.of(regime) is False
    assert exactness.bound == pytest.approx(SAFETY * 0.5, rel=1e-4)


def test_what_differs_does_so_in_wider_and_longer_regimes_too() -> None:
    exactness = Exactness()
    exactness.settle(tried(Regime(1, 8, 9), shift=0.1))
    assert exactness.of(Regime(1, 16, 9)) is False
    assert exactness.of(Regime(1, 8, 12)) is False
    for other in (Regime(1, 4, 9), Regime(1, 8, 8), Regime(2, 8, 9), Regime(1, 8, 9, True)):
        assert exactness.of(other) is None


def test_the_bound_has_a_floor_and_only_grows() -> None:
    exactness = Exactness()
    exactness.settle(tried(Regime(1, WIDTH, 8), shift=1e-4))
    floor = exactness.bound
    assert floor == pytest.approx(LEAST_BOUND * 2, rel=0.2)
    exactness.widen(1e-5)
    assert exactness.bound == floor
    exactness.widen(1.0)
    assert exactness.bound == SAFETY
    exactness.settle(tried(Regime(2, WIDTH, 8), shift=1e-4))
    assert exactness.bound == SAFETY


def test_one_place_alone_proves_nothing() -> None:
    """The first result of a decode does not look at the cache of the guessed tokens."""
    exactness = Exactness()
    regime = Regime(1, WIDTH, 8)
    trial = tried(regime, places=1)
    assert not trial.is_telling
    exactness.settle(trial)
    assert exactness.of(regime) is None


def test_a_trial_ends_with_its_guess() -> None:
    trial = tried(Regime(1, WIDTH, 8), places=2)
    assert not trial.is_over
    assert trial.expects([9])
    assert not trial.expects([8])
    assert tried(Regime(1, WIDTH, 8)).is_over


def test_the_library_may_overwrite_its_rows() -> None:
    rows = rows_of(1)
    trial = Trial(Regime(1, WIDTH, 8), [GUESS], rows)
    plain = rows[:, 0].copy()
    rows[:] = 0
    trial.compare(plain)
    assert trial.same


def test_trials_take_a_small_share_of_the_time() -> None:
    exactness = Exactness()
    trials = 0
    for _ in range(10_000):
        trial = exactness.affords_trial
        trials += trial
        exactness.spend(4.0 if trial else 1.0, trial=trial)
    share = 4.0 * trials / (4.0 * trials + 10_000 - trials)
    assert 0.5 * TRIAL_SHARE < share < 1.1 * TRIAL_SHARE
