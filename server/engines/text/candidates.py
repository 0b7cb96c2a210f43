"""Cuts a row of logits down to the tokens that can matter, before a sampler chain sees them.

llama.cpp's samplers walk and sort whatever they are given: 10 ms a token for top-p over 150,000 tokens, 0.03 to 0.06 ms
over the thousand that have any weight (engine notes, section 3). What is cut could not pass the chain's top-k or min-p
anyway, or has a share of at most `NEGLIGIBLE` of the probability.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

NEGLIGIBLE = 1e-6
_SMALL_VOCABULARY = 1024
_MANY = 512
_TIGHTER = (6.0, 9.0, 12.0, 16.0)
_MOST_BLOCKS = 512

Row = npt.NDArray[np.float32]
Ids = npt.NDArray[np.intp]


class Filters(NamedTuple):
    """The parts of a chain that decide what can be cut; values as in `SamplingParams`, all given."""

    temperature: float
    top_k: int
    top_p: float
    typical_p: float
    min_p: float


def shortlist(row: Row, filters: Filters) -> tuple[float, Ids | None]:
    """Return the largest logit, and the ids [n] worth sampling from, ascending; None for all of them.

    Args:
        row: logits [vocabulary]; forbidden tokens are -inf. Should one be no number, the largest is NaN.
        filters: what the chain will do with the result.
    """
    if len(row) > _SMALL_VOCABULARY and 0 < filters.top_k <= _MOST_BLOCKS:
        return _top(row, filters.top_k)
    peak = float(row.max())
    if len(row) <= _SMALL_VOCABULARY or filters.top_k > 0 or not math.isfinite(peak):
        return peak, None
    cuts_by_share = filters.top_p < 1 or filters.typical_p < 1
    if filters.min_p > 0 and not cuts_by_share:
        return peak, _above(row, peak, 0.001 - math.log(min(filters.min_p, 1.0)))
    # Filters by share work at temperature 1 and drop light tokens themselves. Without one the flatter of the two
    # temperatures counts: its tail is the heavier, so its bound holds for both.
    heat = 1.0 if cuts_by_share else max(1.0, filters.temperature)
    ids = _above(row, peak, (math.log(len(row)) - math.log(NEGLIGIBLE)) * heat)
    return peak, ids if len(ids) <= _MANY else _weighed(row[ids], ids, peak, heat)


def _top(row: Row, top_k: int) -> tuple[float, Ids]:
    """Return a set that has the `top_k` largest in it: cut into more blocks than that, so many reach the bound."""
    blocks = min(_MOST_BLOCKS, max(64, 1 << (top_k * 3 // 2).bit_length()))
    even = len(row) - len(row) % blocks
    maxima = row[:even].reshape(blocks, -1).max(axis=1)
    bound = np.partition(maxima, blocks - top_k)[blocks - top_k]
    peak = float(maxima.max())
    if even < len(row):
        peak = float(np.maximum(peak, row[even:].max()))
    return peak, np.flatnonzero(row >= bound)


def _above(row: Row, peak: float, width: float) -> Ids:
    return np.flatnonzero(row > np.float32(peak - width))


def _weighed(values: Row, ids: Ids, peak: float, heat: float) -> Ids:
    """Drop what is light once the weights are known; a flat distribution stays as it is."""
    weights = np.exp((values - np.float32(peak)) / np.float32(heat))
    total = float(weights.sum(dtype=np.float64))
    for width in _TIGHTER:
        heavy = weights > math.exp(-width)
        if total - float(weights[heavy].sum(dtype=np.float64)) <= NEGLIGIBLE * total:
            return ids[heavy]
    return ids
