import math

import numpy as np
import pytest

from server.engines.text.candidates import NEGLIGIBLE, Cut, Ids, Row, largest, survey
from server.engines.text.candidates import shortlist as listed

SIZE = 20_000


def shortlist(row: Row, cut: Cut) -> tuple[float, Ids | None]:
    seen = survey(row)
    return seen.peak, listed(seen, cut)


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
    peak, kept = shortlist(row, Cut(heat=max(1.0, temperature)))
    assert peak == row.max()
    kept = np.arange(SIZE) if kept is None else kept
    assert mass(row, kept, temperature) >= 1 - 3 * NEGLIGIBLE
    assert mass(row, kept, 1.0) >= 1 - 3 * NEGLIGIBLE


def test_a_peaked_row_becomes_short_and_a_flat_one_stays() -> None:
    row, level = peaked(), flat()
    _, short = shortlist(row, Cut())
    assert short is not None
    assert len(short) < 60
    assert shortlist(level, Cut())[1] is None


@pytest.mark.parametrize("top_k", [1, 40, 256, 5000])
@pytest.mark.parametrize("row", [peaked(), flat(), np.sort(peaked())], ids=["peaked", "flat", "sorted"])
def test_the_top_k_are_all_there(row: Row, top_k: int) -> None:
    peak, kept = shortlist(row, Cut(top=top_k))
    assert peak == row.max()
    values = row if kept is None else row[kept]
    assert np.array_equal(np.sort(values)[::-1][:top_k], np.sort(row)[::-1][:top_k])


def test_the_top_k_of_a_scattered_row_are_few() -> None:
    _, kept = shortlist(flat(), Cut(top=40))
    assert kept is not None
    assert len(kept) < 100


@pytest.mark.parametrize("min_p", [0.05, 0.5, 1.0])
def test_min_p_alone_is_exact(min_p: float) -> None:
    row = peaked()
    peak, kept = shortlist(row, Cut(below=-math.log(min_p)))
    assert peak == row.max()
    assert kept is not None
    passing = np.flatnonzero(row >= row.max() + math.log(min_p))
    assert np.isin(passing, kept).all()
    assert len(kept) <= len(passing) + 5


def test_forbidden_tokens_are_never_listed() -> None:
    row = peaked()
    row[::2] = -np.inf
    for cut in (Cut(), Cut(top=20), Cut(below=3.0), Cut(sigmas=1.0)):
        peak, kept = shortlist(row, cut)
        assert peak == row.max()
        assert kept is not None
        assert (kept % 2 == 1).all()


@pytest.mark.parametrize("cut", [Cut(), Cut(top=40), Cut(below=3.0), Cut(keep=100)])
def test_where_a_mask_allows_few_nothing_else_is_listed(cut: Cut) -> None:
    row = np.full(SIZE, -np.inf, np.float32)
    row[[3, 900, SIZE - 1]] = 1.0, 2.0, 1.5
    peak, kept = shortlist(row, cut)
    assert peak == 2.0
    assert kept is not None
    assert kept.tolist() == [3, 900, SIZE - 1]


@pytest.mark.parametrize("sigmas", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("size", [500, SIZE])
def test_sigmas_are_measured_over_what_is_allowed(sigmas: float, size: int) -> None:
    row = flat()[:size].copy()
    row[::3] = -np.inf
    _, kept = shortlist(row, Cut(sigmas=sigmas))
    allowed = row[np.isfinite(row)].astype(np.float64)
    assert kept is not None
    assert np.array_equal(kept, np.flatnonzero(row >= allowed.max() - sigmas * allowed.std()))


@pytest.mark.parametrize("keep", [3, 100, 5000])
@pytest.mark.parametrize("cut", [Cut(), Cut(below=0.01), Cut(top=2)])
def test_so_many_of_the_largest_stay(cut: Cut, keep: int) -> None:
    row = peaked()
    _, kept = shortlist(row, cut._replace(keep=keep))
    values = row if kept is None else row[kept]
    assert np.array_equal(np.sort(values)[::-1][:keep], np.sort(row)[::-1][:keep])


@pytest.mark.parametrize("size", [300, 1300, SIZE, SIZE + 77])
def test_lists_are_ascending_and_reach_the_end(size: int) -> None:
    row = np.random.default_rng(3).normal(0, 1, size).astype(np.float32)
    row[-1] = row.max() + 1
    for count in (1, 5, 40):
        best = largest(row, count)
        assert np.array_equal(best, np.argsort(-row, kind="stable")[:count])
    _, kept = shortlist(row, Cut(below=2.0))
    if kept is not None:
        assert (np.diff(kept) > 0).all()
        assert kept[-1] == size - 1


def test_what_is_whole_is_not_cut() -> None:
    assert shortlist(peaked(), Cut(whole=True))[1] is None


def test_small_vocabularies_are_not_worth_it() -> None:
    assert shortlist(np.zeros(300, np.float32), Cut()) == (0.0, None)


@pytest.mark.parametrize("place", [0, SIZE // 2, SIZE - 1])
@pytest.mark.parametrize("size", [500, SIZE, SIZE + 7])
def test_what_is_no_number_is_told(place: int, size: int) -> None:
    row = np.resize(flat(), size)
    row[place % size] = np.nan
    assert math.isnan(survey(row).peak)


@pytest.mark.parametrize("sigmas", [2.0, 4.0, 8.0])
def test_many_sigmas_are_applied_too(sigmas: float) -> None:
    row = flat()
    _, kept = shortlist(row, Cut(sigmas=sigmas))
    wide = row.astype(np.float64)
    assert kept is not None
    assert np.array_equal(kept, np.flatnonzero(row >= wide.max() - sigmas * wide.std()))


@pytest.mark.parametrize("heat", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("share", [1e-6, 0.3, 0.9, 0.95, 0.999])
@pytest.mark.parametrize("size", [500, SIZE, SIZE + 7])
@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_a_share_is_that_of_the_fewest_tokens(size: int, share: float, heat: float, scale: float) -> None:
    row = np.resize(peaked(), size) * np.float32(scale)
    row[3::7] = -np.inf
    _, kept = shortlist(row, Cut(share=share, heat=heat))
    weights = np.exp((row.astype(np.float64) - float(row.max())) / heat)
    weights /= weights.sum()
    order = np.argsort(-weights, kind="stable")
    count = int(np.searchsorted(np.cumsum(weights[order]), share)) + 1
    if kept is None:  # then the last one is lighter than a 256th of what the largest of all classes weigh together
        ceilings = np.exp((survey(row).maxima.astype(np.float64) - float(row.max())) / heat)
        assert weights[order[count - 1]] / weights.max() <= ceilings.sum() / 256 * 1.001
        return
    assert (np.diff(kept) > 0).all()
    # A token at the edge may fall to either side by rounding.
    assert abs(len(kept) - count) <= 1
    assert weights[kept].min() >= weights[order[count]]


def test_no_list_is_longer_than_it_may_be() -> None:
    seen = survey(flat())
    for cut in (Cut(), Cut(below=0.2), Cut(below=3.0)):
        found = listed(seen, cut, most=50)
        assert found is None or len(found) <= 50
    assert listed(seen, Cut(below=0.2)) is not None
