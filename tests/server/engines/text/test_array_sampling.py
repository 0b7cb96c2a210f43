import numpy as np
import pytest

from server.core.text import SamplingParams
from server.engines.text.array_sampling import ArrayChain, share_bound
from server.engines.text.candidates import Row
from server.engines.text.sampling_values import resolve

SIZES = (10, 3000, 20_000)


class Drawn:
    """A chain with all samplers that its parameters ask for."""

    def __init__(self, params: SamplingParams, size: int, seed: int = 1) -> None:
        resolved = resolve(params, vocabulary=size, context=512)
        self._order = resolved.order
        self.arrays = ArrayChain(resolved, seed, {})

    def choose(self, row: Row) -> int:
        return self.arrays.choose(row.copy(), self._order, len(row))


@pytest.mark.parametrize("share", [0.001, 0.3, 0.95, 0.9999, 1.0, 2.0])
@pytest.mark.parametrize("spread", [0.0, 0.01, 1.0, 5.0, 30.0])
@pytest.mark.parametrize("size", SIZES)
def test_a_share_is_found_where_sorting_finds_it(size: int, spread: float, share: float) -> None:
    score = (np.random.default_rng(size).normal(0, 1, size) * spread).astype(np.float32)
    weights = np.exp(score - score.max())
    weights[::7] = 0
    score[::7] = -np.inf
    wanted = share * float(weights.sum(dtype=np.float64))
    bound = share_bound(score, weights, wanted)
    wide = weights.astype(np.float64)
    reached = wide[score >= bound].sum()
    rounding = 1e-5 * wide.sum()
    assert reached >= min(wanted, wide.sum()) - rounding
    assert wide[score > bound].sum() < wanted + rounding


def test_the_draw_never_takes_what_has_no_weight() -> None:
    made = Drawn(SamplingParams(), 5000)
    weights = np.zeros(5000, np.float32)
    weights[[3, 1000, 4999]] = 1e-30, 1.0, 1.0
    found = {made.arrays._draw(weights) for _ in range(300)}
    assert found == {1000, 4999}


def test_the_draw_follows_the_weights() -> None:
    made = Drawn(SamplingParams(), 2000)
    weights = np.random.default_rng(1).random(2000).astype(np.float32)
    draws = np.bincount([made.arrays._draw(weights) for _ in range(4000)], minlength=2000)
    distance = np.abs(np.cumsum(draws) / 4000 - np.cumsum(weights) / weights.sum()).max()
    assert distance < 1.95 / np.sqrt(4000)


def test_equal_seeds_draw_equally() -> None:
    row = np.zeros(5000, np.float32)
    first, again = Drawn(SamplingParams(top_k=0), 5000), Drawn(SamplingParams(top_k=0), 5000)
    assert [first.choose(row) for _ in range(5)] == [again.choose(row) for _ in range(5)]


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("tau", [0.0, 3.0, 1e6])
@pytest.mark.parametrize("eta", [0.1, 1e6])
@pytest.mark.parametrize("spread", [0.0, 1.0, 1000.0])
def test_mirostat_survives_every_value(version: int, tau: float, eta: float, spread: float) -> None:
    made = Drawn(SamplingParams(mirostat=version, mirostat_tau=tau, mirostat_eta=eta), 300)
    row = (np.random.default_rng(2).normal(0, 1, 300) * spread).astype(np.float32)
    row[5] = -np.inf
    for _ in range(20):
        assert made.choose(row) != 5
