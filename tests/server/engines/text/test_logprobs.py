import math

import numpy as np
import pytest

from server.core.text import TokenLogprob
from server.engines.text.candidates import Row
from server.engines.text.logprobs import LogprobReader, normaliser


def piece(token: int) -> bytes:
    return str(token).encode()


def exact(row: Row) -> np.ndarray:
    wide = row.astype(np.float64)
    return wide - wide.max() - math.log(np.exp(wide - wide.max()).sum())


@pytest.mark.parametrize("size", [5, 1000, 152_064])
@pytest.mark.parametrize(("scale", "shift"), [(0.0, 0.0), (1.0, 0.0), (8.0, 300.0), (30.0, -1000.0)])
def test_logprobs_are_those_of_a_float64_softmax(size: int, scale: float, shift: float) -> None:
    row = (np.random.default_rng(size).normal(0, 1, size) * scale + shift).astype(np.float32)
    reader = LogprobReader(piece, 3)
    expected = exact(row)
    for token in (0, size // 2, size - 1):
        told = reader.of(row, token)
        assert told.logprob == pytest.approx(expected[token], abs=1e-4)
        assert told.piece == piece(token)
        best = [likely.token for likely in told.top]
        assert [expected[token] for token in best] == sorted(expected, reverse=True)[:3]
        assert [likely.logprob for likely in told.top] == pytest.approx([expected[token] for token in best], abs=1e-4)


def test_forbidden_tokens_have_no_probability() -> None:
    row = np.array([0.0, -np.inf, 0.0], np.float32)
    assert normaliser(row, float(row.max())) == pytest.approx(math.log(2))
    assert LogprobReader(piece, 0).of(row, 1).logprob == -math.inf


def test_what_is_held_is_not_changed_by_the_choice() -> None:
    row = np.array([1.0, 2.0], np.float32)
    reader = LogprobReader(piece, 0)
    reader.hold(row)
    row[:] = 0
    told = reader.read(1)
    assert told is not None
    assert told.logprob == pytest.approx(-math.log1p(math.exp(-1)))
    assert reader.read(1) is None


def test_the_mean_is_over_all_that_was_read() -> None:
    reader = LogprobReader(piece, 0)
    assert reader.mean == -math.inf
    for _ in range(2):
        reader.hold(np.zeros(4, np.float32))
        reader.read(0)
    assert reader.mean == pytest.approx(-math.log(4))


def test_the_first_token_of_a_prompt_has_none() -> None:
    assert LogprobReader(piece, 2).first(7) == TokenLogprob(7, b"7", None)
