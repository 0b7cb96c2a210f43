"""The draw that weighs only the upper part of a row gives the token that weighing all of it would give."""

import math
import random

import numpy as np
import pytest

from server.core.text import SamplingParams
from server.engines.text.candidates import Row, survey
from server.engines.text.sampling_values import ORDER, resolve
from server.engines.text.upper_draw import MOST_WEIGHED, Upper, UpperDraw, upper_of

SIZE = 5003
SEEDS = 25
DRAWS = 12


def trained(source: np.random.Generator) -> Row:
    """Return a row as trained models have them: some stand out of a broad rest."""
    row = source.normal(0, 2.2, SIZE).astype(np.float32)
    row[source.integers(0, SIZE, 30)] += source.exponential(4, 30).astype(np.float32) + 4
    return row


def level(source: np.random.Generator) -> Row:
    """Return a row with many equal logits, and forbidden ones."""
    row = source.integers(0, 6, SIZE).astype(np.float32)
    row[source.integers(0, SIZE, SIZE // 2)] = -math.inf
    return row


MAKERS = {
    "trained": trained,
    "rough": lambda source: source.normal(0, 4, SIZE).astype(np.float32),
    "one": lambda source: (np.arange(SIZE) == source.integers(SIZE)).astype(np.float32) * 40,
    "flat": lambda source: source.normal(0, 0.5, SIZE).astype(np.float32),
    "level": level,
}
UPPERS = {
    "share": Upper(share=0.95),
    "small share": Upper(share=0.3, drawn_at=0.7),
    "nothing": Upper(share=0.0),
    "hot share": Upper(share=0.8, heat=1.7, drawn_at=1.7),
    "share, hot": Upper(share=0.9, drawn_at=2.0),
    "share and bound": Upper(share=0.95, below=2.5, drawn_at=0.8),
    "bound": Upper(below=2.0, drawn_at=1.3),
}


def weighed_whole(row: Row, upper: Upper, spot: float) -> int:
    """Return the token at a spot of the weights of all that are left, after weighing and sorting the whole row."""
    relative = row - row.max()
    order = np.arange(len(row))
    if upper.share < 1:
        weights = np.exp(relative / np.float32(upper.heat))
        order = np.argsort(-weights, kind="stable")
        sums = np.cumsum(weights[order], dtype=np.float64)
        order = order[: int(np.searchsorted(sums, upper.share * sums[-1])) + 1]
    order = order[relative[order] >= np.float32(-upper.below)]
    sums = np.cumsum(np.exp(relative[order] / np.float32(upper.drawn_at)), dtype=np.float64)
    return int(order[np.searchsorted(sums, spot * sums[-1], side="right")])


@pytest.mark.parametrize("name", UPPERS)
@pytest.mark.parametrize("kind", MAKERS)
def test_the_token_is_the_one_of_the_whole_row(kind: str, name: str) -> None:
    upper, drawn = UPPERS[name], 0
    for seed in range(SEEDS):
        row = MAKERS[kind](np.random.default_rng(seed))
        made, spots = UpperDraw(upper, seed), random.Random(seed)
        for _ in range(DRAWS):
            token = made.draw(survey(row))
            if token is None:
                spots.random()
                continue
            drawn += 1
            if upper.share < 1 or np.count_nonzero(row >= row.max() - upper.below) <= MOST_WEIGHED:
                assert token == weighed_whole(row, upper, spots.random())
    assert drawn > 0.9 * SEEDS * DRAWS or kind not in ("trained", "one")


def test_a_whole_row_is_weighed_only_where_it_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    weighed = []

    def weigh(row: Row, peak: float, heat: float = 1.0) -> float:
        weighed.append(row)
        return float(np.exp((row - np.float32(peak)) / np.float32(heat)).sum())

    monkeypatch.setattr("server.engines.text.upper_draw.weight_sum", weigh)
    made = UpperDraw(Upper(share=0.9), 1)
    for seed in range(50):
        row = np.random.default_rng(seed).normal(0, 1, SIZE).astype(np.float32)
        row[seed] = 20
        assert made.draw(survey(row)) == seed
    assert not weighed


@pytest.mark.parametrize(
    ("params", "upper"),
    [
        ({"temperature": 0.7}, Upper(drawn_at=0.7)),
        ({"top_p": 0.9, "temperature": 0.7}, Upper(share=0.9, drawn_at=0.7)),
        ({"min_p": 0.1, "temperature": 2.0}, Upper(below=-math.log(0.1), drawn_at=2.0)),
        (
            {"top_p": 0.9, "temperature": 0.5, "samplers": ("temperature", "top_p")},
            Upper(share=0.9, heat=0.5, drawn_at=0.5),
        ),
        ({"min_p": 0.1, "top_p": 0.9, "samplers": ("min_p", "top_p", "temperature")}, None),
        ({"top_p": 0.9, "samplers": ("top_p", "top_p")}, None),
        ({"top_k": 5}, None),
        ({"typical_p": 0.5}, None),
        ({"top_p": 0.9, "min_keep": 3}, None),
        ({"temperature": 1e-9}, None),
        ({"dynatemp_range": 0.2}, None),
        ({"mirostat": 2}, None),
    ],
)
def test_what_a_chain_comes_to(params: dict[str, object], upper: Upper | None) -> None:
    given = {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "samplers": ORDER} | params
    chain = resolve(SamplingParams(**given), vocabulary=SIZE, context=64)  # type: ignore[arg-type]
    assert upper_of(chain, chain.order) == upper


@pytest.mark.parametrize("name", ["share", "bound"])
def test_equal_seeds_draw_equally_and_others_differ(name: str) -> None:
    seen = survey(np.zeros(SIZE, np.float32) + np.isin(np.arange(SIZE), (7, 70, 700)) * np.float32(20))
    draws = [[made.draw(seen) for _ in range(20)] for made in (UpperDraw(UPPERS[name], seed) for seed in (1, 1, 2))]
    assert draws[0] == draws[1] != draws[2]
