"""Draws a token where nothing acts but temperatures and filters that keep the upper part of a row: top-p and min-p.

Of a row of 150,000 tokens a few hundred matter. They are weighed and stand first, in descending order; what all others
weigh together lies between two bounds, by the largest of each class. Where top-p ends, and with it which token is
drawn, mostly does not depend on where between them: then nothing else is weighed. Otherwise the whole row is, so the
token is always the one that weighing the whole row would have given.
"""

import math
import random
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from server.engines.text.candidates import CLASS, Ids, Row, Survey, reaching, weight_sum
from server.engines.text.lottery import Lottery
from server.engines.text.sampling_values import Chain

_LEAST = (4096, 256)
_ROUNDING = 1e-6
MOST_WEIGHED = 2048
"""More tokens than these are not weighed one by one where a bound alone is set: a lottery is faster."""
_COLDEST, _HOTTEST = 1e-3, 1e4  # beyond, numbers of 32 bits leave nothing of a row

Sums = npt.NDArray[np.float64]


class Upper(NamedTuple):
    """What is left of a row, and the temperature `drawn_at` at which one of that is drawn.

    Left are the fewest tokens that have `share` at temperature `heat` (1 = all), of them those that lie at most `below`
    the largest.
    """

    share: float = 1.0
    heat: float = 1.0
    below: float = math.inf
    drawn_at: float = 1.0


def upper_of(chain: Chain, body: Sequence[str]) -> Upper | None:
    """Return what a chain comes to, None where other samplers act or what one sees depends on another's cut."""
    upper, heat = Upper(), 1.0
    if chain.mirostat.version or chain.min_keep > 1:
        return None
    for name in body:
        match name:
            case "temperature" if _COLDEST <= chain.temperature <= _HOTTEST and chain.heat_range <= 0:
                heat *= chain.temperature
            case "min_p":
                below = -math.log(min(chain.min_p, 1.0)) * heat
                upper = upper._replace(below=min(upper.below, below))
            case "top_p" if upper.share == 1.0 and upper.below == math.inf:
                upper = upper._replace(share=chain.top_p, heat=heat)
            case _:
                return None
    return upper._replace(drawn_at=heat) if _COLDEST <= heat <= _HOTTEST else None


class UpperDraw:
    """Draws the tokens of one reply; owns its random numbers."""

    def __init__(self, upper: Upper, seed: int) -> None:
        self._upper = upper
        self._random = random.Random(seed)
        self._lottery = Lottery(seed)

    def draw(self, seen: Survey) -> int | None:
        """Return a token of a row with classes; None where top-p leaves so many that other means are faster."""
        upper = self._upper
        if upper.share < 1.0:
            return self._of_share(seen)
        bound = seen.peak - upper.below
        ids = reaching(seen, bound, MOST_WEIGHED) if bound > -math.inf else None
        if ids is None:
            return self._lottery.draw(seen, bound, upper.drawn_at)
        running = _running(seen.row[ids], seen.peak, upper.drawn_at)
        return int(ids[_place(running, len(running), self._random.random())])

    def _of_share(self, seen: Survey) -> int | None:
        upper, spot = self._upper, self._random.random()
        head = _head(seen, upper.heat)
        fewest, most = head.ends(upper.share)
        if fewest is None:
            return None
        running = head.running
        if upper.drawn_at != upper.heat:
            running = _running(head.logits[: most or len(head.logits)], seen.peak, upper.drawn_at)
        kept = len(running)
        if upper.below < math.inf:
            kept = int(np.count_nonzero(head.logits >= np.float32(seen.peak - upper.below)))
        fewest = min(fewest, kept)
        place = _place(running, fewest, spot)
        if fewest < kept and not self._is_sure(head, running, most, place, spot):
            end = _end(head.running, upper.share * weight_sum(seen.row, seen.peak, upper.heat))
            if end is None:
                return None
            place = _place(running, min(end, kept), spot)
        return int(head.ids[place])

    def _is_sure(self, head: "_Head", running: Sums, most: int | None, place: int, spot: float) -> bool:
        """Tell whether a place that holds where top-p ends soonest holds as well where it ends last."""
        if most is not None:
            return _place(running, most, spot) == place
        upper = self._upper
        if upper.drawn_at != upper.heat or upper.below < math.inf:
            return False
        # It may end behind the head, where every token is light: what is left weighs no more than this.
        heaviest = upper.share * head.most + head.light
        return int(running.searchsorted(spot * heaviest, side="right")) == place


class _Head(NamedTuple):
    """The heaviest tokens of a row [n], in descending order, their logits and the running sums of their weights.

    All tokens together weigh something between `least` and `most`, and each of the others at most `light`.
    """

    ids: Ids
    logits: Row
    running: Sums
    least: float
    most: float
    light: float

    def ends(self, share: float) -> tuple[int | None, int | None]:
        """Return how many of them have a share at least, and at most; None when that is more than there are."""
        return _end(self.running, share * self.least), _end(self.running, share * self.most)


def _head(seen: Survey, heat: float) -> _Head:
    peak = np.float32(seen.peak)
    ceilings = np.exp((seen.maxima - peak) / np.float32(heat))
    total = float(np.add.reduce(ceilings, dtype=np.float64))
    light = np.float32(total / _LEAST[0])
    outstanding = (ceilings > light).nonzero()[0]
    if len(outstanding) > _LEAST[1]:
        light = np.float32(total / _LEAST[1])
        outstanding = (ceilings > light).nonzero()[0]
    ids, values = seen.members(outstanding)
    weights = np.exp((values - peak) / np.float32(heat))
    heavy = (weights > light).nonzero()[0]
    heavy = heavy[(-weights[heavy]).argsort(kind="stable")]
    inside = float(np.add.reduce(weights, dtype=np.float64))
    others = max(0.0, total - float(np.add.reduce(ceilings[outstanding], dtype=np.float64)))
    slack = _ROUNDING * (inside + others)
    return _Head(
        ids[heavy],
        values[heavy],
        weights[heavy].cumsum(dtype=np.float64),
        inside + others - slack,
        inside + CLASS * others + slack,
        float(light),
    )


def _running(logits: Row, peak: float, heat: float) -> Sums:
    return np.exp((logits - np.float32(peak)) / np.float32(heat)).cumsum(dtype=np.float64)


def _end(running: Sums, wanted: float) -> int | None:
    """Return how many tokens weigh what is wanted, None when all of them do not."""
    found = int(running.searchsorted(wanted)) + 1
    return found if found <= len(running) else None


def _place(running: Sums, count: int, spot: float) -> int:
    """Return which of the first `count` tokens lies at a spot in 0 ... 1 of what they weigh."""
    found = int(running[:count].searchsorted(spot * running[count - 1], side="right"))
    return min(found, count - 1)
