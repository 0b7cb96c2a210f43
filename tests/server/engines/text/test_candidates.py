import math

import numpy as np
import pytest

from server.engines.text.candidates import NEGLIGIBLE, Filters, Row, shortlist

SIZE = 20_000


def filters(
    temperature: float = 0.8, top_k: int = 0, top_p: float = 1.0, typical_p: float = 1.0, min_p: float = 0.0
) -> Filters:
    return Filters(temperature, top_k, top_p, typical_p, min_p)


def peaked(seed: int = 1) -> Row:
    row = np.random.default_rng(seed).normal(0, 1.5, SIZE).astype(np.float32)
    row[:50] += np.linspace(28, 12, 50, dtype=np.float32)
    return row


def flat(seed: int = 1) -> Row:
    return np.random.default_rng(seed).normal(0, 0.1, SIZE).astype(np.float32)


def mass(row: Row, kept: np.ndarray, temperature: float) -> float:
    weights = np.exp((row.astype(np.float64) - float(row.max())) / temperature)
    return float(weights[kept].sum() / weights.sum())


@pytest.mark.parametrize("temperature", [0.1, 0.8, 1.0, 1.7, 5.0])
@pytest.mark.parametrize("row", [peaked(), flat()], ids=["peaked", "flat"])
def test_what_is_cut_has_no_weight_at_the_temperature_and_at_one(row: Row, temperature: float) -> None:
    peak, kept = shortlist(row, filters(temperature))
    assert peak == row.max()
    assert kept is not None
    assert mass(row, kept, temperature) >= 1 - 3 * NEGLIGIBLE
    assert mass(row, kept, 1.0) >= 1 - 3 * NEGLIGIBLE


@pytest.mark.parametrize("shares", [filters(5.0, top_p=0.9), filters(5.0, typical_p=0.9)])
def test_filters_by_share_only_need_the_weights_at_temperature_one(shares: Filters) -> None:
    row = peaked()
    _, kept = shortlist(row, shares)
    assert kept is not None
    assert mass(row, kept, 1.0) >= 1 - 3 * NEGLIGIBLE
    assert len(kept) < 60


def test_a_peaked_row_becomes_short_and_a_flat_one_stays() -> None:
    row, level = peaked(), flat()
    _, short = shortlist(row, filters())
    _, whole = shortlist(level, filters())
    assert short is not None and len(short) < 60
    assert whole is not None and len(whole) == SIZE


@pytest.mark.parametrize("top_k", [1, 40, 256, 5000])
@pytest.mark.parametrize("row", [peaked(), flat(), np.sort(peaked())], ids=["peaked", "flat", "sorted"])
def test_the_top_k_are_all_there(row: Row, top_k: int) -> None:
    peak, kept = shortlist(row, filters(top_k=top_k))
    assert peak == row.max()
    values = row if kept is None else row[kept]
    assert np.array_equal(np.sort(values)[::-1][:top_k], np.sort(row)[::-1][:top_k])


def test_the_top_k_of_a_scattered_row_are_few() -> None:
    _, kept = shortlist(flat(), filters(top_k=40))
    assert kept is not None
    assert len(kept) < 100


@pytest.mark.parametrize("min_p", [0.05, 0.5, 1.0])
def test_min_p_alone_is_exact(min_p: float) -> None:
    row = peaked()
    peak, kept = shortlist(row, filters(min_p=min_p))
    assert peak == row.max()
    assert kept is not None
    passing = np.flatnonzero(row >= row.max() + math.log(min_p))
    assert np.isin(passing, kept).all()
    assert len(kept) <= len(passing) + 5


def test_forbidden_tokens_are_never_listed() -> None:
    row = flat()
    row[::2] = -np.inf
    peak, kept = shortlist(row, filters())
    assert peak == row.max()
    assert kept is not None
    assert len(kept) == SIZE // 2
    assert (kept % 2 == 1).all()


def test_small_vocabularies_are_not_worth_it() -> None:
    assert shortlist(np.zeros(300, np.float32), filters()) == (0.0, None)


@pytest.mark.parametrize("place", [0, SIZE // 2, SIZE - 1])
@pytest.mark.parametrize("top_k", [0, 40])
def test_what_is_no_number_is_told(place: int, top_k: int) -> None:
    row = flat()
    row[place] = np.nan
    peak, _ = shortlist(row, filters(top_k=top_k))
    assert math.isnan(peak)
