"""The sampler chain over arrays: for rows that stay long, and for what native code cannot do with a cut row.

The rules are llama.cpp's (`llama-sampler.cpp`), the means are not: nothing is sorted as a whole. Filters that keep the
upper part only raise a bound; the place of a share is found by a histogram, then exactly within one bin; and the draw
from a long row is a `lottery`. A flat row of 150,000 tokens then takes half a millisecond where sorting takes tens.
"""

import math
import random
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from server.engines.text.candidates import Ids, Row, largest, survey
from server.engines.text.exponentials import exponentials
from server.engines.text.lottery import Lottery
from server.engines.text.sampling_values import Chain

_FEW = 2048
_BINS = 4096
_BLOCK = 512
_MIROSTAT_TOKENS = 100

Touch = Callable[[Row], None]


class Pool:
    """What is left of a row [n] while the samplers act. Logits below `bound`, and those of -inf, have been dropped.

    `size` is how many tokens there are at the moment, with those that were cut off before.
    """

    def __init__(self, logits: Row, size: int, ids: Ids | None) -> None:
        self.logits = logits
        self._total = size
        self._ids = ids
        self.bound = -math.inf
        self._size: int | None = size
        self._weights: Row | None = None
        self._weighed_bound = -math.inf
        self._peak: float | None = None

    @property
    def peak(self) -> float:
        """Return the largest logit."""
        if self._peak is None:
            self._peak = float(self.logits.max())
        return self._peak

    @property
    def size(self) -> int:
        """Return how many tokens are left."""
        if self._size is None:
            self._size = int(np.count_nonzero(self.alive()))
        return self._size

    def alive(self) -> npt.NDArray[np.bool_]:
        """Return which tokens [n] are left."""
        return self.logits >= np.float32(self.bound) if self.bound > -math.inf else self.logits > -math.inf

    def weights(self) -> Row:
        """Return the exponentials [n] of the logits relative to the largest; 0 for what was dropped."""
        if self._weights is None:
            self._weights = np.empty_like(self.logits)
            exponentials(self.logits, self.peak, self._weights)
            self._weighed_bound = -math.inf
        if self.bound > self._weighed_bound:
            self._weights *= self.alive()
            self._weighed_bound = self.bound
        return self._weights

    def raise_bound(self, bound: float, *, counting: bool = True) -> None:
        """Drop what lies below; the largest always stays. Without `counting` the size is as if nothing was dropped."""
        bound = min(bound, self.peak)
        if bound > self.bound:
            size = self.size if not counting else None
            self.bound = bound
            self._size = size

    def scale(self, temperature: float) -> None:
        """Divide all logits."""
        if temperature <= 0:
            self.raise_bound(self.peak)
        elif temperature != 1.0:
            self.logits /= np.float32(temperature)
            # Both must stay logits of the row: the same division in the same precision.
            self.bound = float(np.float32(self.bound) / np.float32(temperature))
            self._peak = None if self._peak is None else float(np.float32(self._peak) / np.float32(temperature))
            self._weights = None

    def drop(self, places: Ids) -> None:
        """Drop the tokens at some places [k], among them maybe the largest."""
        if len(places):
            self.logits[places] = -math.inf
            self._weights = self._peak = self._size = None

    def settle(self) -> None:
        """Write out what was dropped as -inf, so that the logits can be changed by others."""
        if self.bound > -math.inf:
            # Many times as fast as an assignment by a mask.
            ceilings = np.where(self.alive(), np.float32(math.inf), np.float32(-math.inf))
            np.minimum(self.logits, ceilings, out=self.logits)
            self.bound = -math.inf

    def touch(self, write: Touch) -> None:
        """Let penalties, which know tokens by their ids, be written into the logits."""
        self.settle()
        if self._ids is None:
            write(self.logits)
        else:
            row = np.zeros(self._total, np.float32)
            row[self._ids] = self.logits
            write(row)
            self.logits = row[self._ids]
        self._weights = self._peak = None


class ArrayChain:
    """The samplers of a chain, and the draw. Owns the random numbers of one reply that uses it."""

    def __init__(self, chain: Chain, seed: int, touches: Mapping[str, Touch]) -> None:
        """Prepare the samplers; `touches` write the penalties into a row."""
        self._chain = chain
        self._random = random.Random(seed)
        self._lottery = Lottery(seed)
        self._touches = touches
        self._mu = 2.0 * chain.mirostat.tau

    def choose(self, logits: Row, order: Sequence[str], size: int, ids: Ids | None = None) -> int:
        """Return the place in `logits` [n] of the next token; they are overwritten.

        Args:
            logits: of the tokens that were not cut off.
            order: the samplers that are still to act.
            size: how many tokens there were before the cut.
            ids: which tokens [n] they are; None when nothing was cut off.
        """
        pool = Pool(logits, size, ids)
        for name in order:
            self._act(name, pool)
        match self._chain.mirostat.version:
            case 1:
                self._mirostat_1(pool)
            case 2:
                self._mirostat_2(pool)
        if self._chain.mirostat.version:
            weights = pool.weights()
            place = self._draw(weights)
            surprise = -math.log2(float(weights[place]) / float(weights.sum()))
            self._mu -= self._chain.mirostat.eta * (surprise - self._chain.mirostat.tau)
            return place
        if len(logits) > _FEW:
            return self._lottery.draw(survey(pool.logits), pool.bound, 1.0)
        return self._draw(pool.weights())

    def probabilities(self, logits: Row, order: Sequence[str], size: int) -> npt.NDArray[np.float64]:
        """Return the probability [n] of each token before the draw; the logits are overwritten."""
        pool = Pool(logits, size, None)
        for name in order:
            self._act(name, pool)
        weights = pool.weights().astype(np.float64)
        return weights / weights.sum()

    def _act(self, name: str, pool: Pool) -> None:
        chain = self._chain
        match name:
            case "temperature":
                self._temper(pool)
            case "top_k":
                if chain.top_k < pool.size:
                    pool.raise_bound(_nth_largest(pool.logits, chain.top_k))
            case "min_p":
                pool.raise_bound(min(pool.peak + math.log(chain.min_p), self._kept(pool)))
            case "top_p":
                self._top_p(pool)
            case "typ_p":
                self._typical(pool)
            case "xtc":
                self._exclude_top(pool)
            case "top_n_sigma":
                finite = pool.logits[pool.alive()]
                # llama.cpp leaves what this filter drops in place, with a weight of 0.
                pool.raise_bound(pool.peak - chain.top_n_sigma * float(finite.std()), counting=False)
            case _:
                pool.touch(self._touches[name])

    def _kept(self, pool: Pool) -> float:
        """Return the logit down to which nothing may be dropped, inf when that is no matter."""
        return _nth_largest(pool.logits, self._chain.min_keep) if self._chain.min_keep > 1 else math.inf

    def _temper(self, pool: Pool) -> None:
        chain = self._chain
        if chain.heat_range <= 0 or chain.mirostat.version:
            pool.scale(chain.temperature)
            return
        if pool.size <= 1:
            return
        weights = pool.weights()
        total = float(weights.sum())
        entropy = math.log(total) - _mean(weights, pool) / total
        share = min(1.0, max(0.0, entropy / math.log(pool.size)))
        lowest = max(0.0, chain.temperature - chain.heat_range)
        highest = chain.temperature + chain.heat_range
        pool.scale(lowest + (highest - lowest) * share**chain.heat_exponent)

    def _top_p(self, pool: Pool) -> None:
        weights = pool.weights()
        wanted = self._chain.top_p * float(weights.sum())
        pool.raise_bound(min(share_bound(pool.logits, weights, wanted), self._kept(pool)))

    def _typical(self, pool: Pool) -> None:
        """Keep the tokens whose surprise is nearest to the mean surprise, that is whose logit is to the mean logit."""
        weights = pool.weights()
        total = float(weights.sum())
        centre = pool.peak + _mean(weights, pool) / total
        score = pool.logits - np.float32(centre)
        np.negative(np.abs(score, out=score), out=score)
        if pool.bound > -math.inf:
            score[~pool.alive()] = -math.inf
        bound = share_bound(score, weights, self._chain.typical_p * total)
        if self._chain.min_keep > 1:
            bound = min(bound, _nth_largest(score, self._chain.min_keep))
        # What is too unlikely lies below a bound; what is too likely is little.
        pool.raise_bound(float(np.nextafter(np.float32(centre + bound), np.float32(-math.inf))))
        pool.drop(np.flatnonzero((pool.logits > np.float32(centre)) & (score < np.float32(bound))))

    def _exclude_top(self, pool: Pool) -> None:
        """Drop all tokens from the threshold on but the least likely of them, with a probability (XTC)."""
        if pool.size < 2 or self._random.random() > self._chain.xtc_probability:
            return
        weights = pool.weights()
        least = self._chain.xtc_threshold * float(weights.sum())
        above = np.flatnonzero(weights >= np.float32(least) if least > 0 else pool.alive())
        if len(above) < 2 or pool.size - (len(above) - 1) < self._chain.min_keep:
            return
        last = int(pool.logits[above].argmin())
        pool.drop(np.delete(above, last))

    def _mirostat_1(self, pool: Pool) -> None:
        """Keep so many tokens as a Zipf distribution of the observed shape needs for the wished surprise."""
        best = pool.logits[largest(pool.logits, _MIROSTAT_TOKENS)].astype(np.float64)
        if len(best) < 2:
            return
        ratios = np.log(np.arange(2, len(best) + 1) / np.arange(1, len(best)))
        falls = np.nan_to_num(best[:-1] - best[1:], nan=0.0, posinf=1e3)
        shape = float((ratios * falls).sum() / (ratios * ratios).sum())
        count = _zipf_count(shape, self._mu, pool.size)
        if count < pool.size:
            pool.raise_bound(_nth_largest(pool.logits, count))

    def _mirostat_2(self, pool: Pool) -> None:
        """Drop what would surprise more than `mu` bits."""
        total = float(pool.weights().sum())
        pool.raise_bound(pool.peak + math.log(total) - self._mu * math.log(2))

    def _draw(self, weights: Row) -> int:
        """Return a place with the probability of its weight [n]; never one of weight 0."""
        sums = np.add.reduceat(weights, np.arange(0, len(weights), _BLOCK)).astype(np.float64)
        running = np.cumsum(sums)
        wanted = self._random.random() * running[-1]
        block = min(int(np.searchsorted(running, wanted, side="right")), len(sums) - 1)
        while sums[block] <= 0:
            block -= 1
        part = weights[block * _BLOCK : (block + 1) * _BLOCK].astype(np.float64)
        inside = np.cumsum(part)
        place = int(np.searchsorted(inside, wanted - (running[block] - sums[block]), side="right"))
        if place >= len(part) or part[place] <= 0:  # the two sums differ by rounding
            place = int(np.flatnonzero(part)[-1])
        return block * _BLOCK + place


def share_bound(score: Row, weights: Row, wanted: float) -> float:
    """Return the largest score from which on the weights [n] sum up to `wanted`; the least when all do not.

    Args:
        score: [n]; what is best is kept first.
        weights: [n], not negative; 0 for what was dropped before.
        wanted: a sum of weights.
    """
    if len(score) <= _FEW:
        return _among(score, weights, wanted)
    if float(score.min()) == -math.inf:
        places = np.flatnonzero(weights)
        score, weights = score[places], weights[places]
    high, low = float(score.max()), float(score.min())
    if high == low:
        return high
    # int64 and float64 are what bincount works on; anything else it converts slowly.
    bins = ((np.float32(high) - score) * np.float32(_BINS / (high - low))).astype(np.intp)
    running = np.cumsum(np.bincount(bins, weights.astype(np.float64), _BINS + 1))
    found = int(np.searchsorted(running, wanted))
    if found >= len(running):
        return low
    inside = np.flatnonzero(bins == found)
    return _among(score[inside], weights[inside], wanted - (float(running[found - 1]) if found else 0.0))


def _among(score: Row, weights: Row, wanted: float) -> float:
    order = np.argsort(-score)
    running = np.cumsum(weights[order], dtype=np.float64)
    return float(score[order[min(int(np.searchsorted(running, wanted)), len(order) - 1)]])


def _nth_largest(values: Row, count: int) -> float:
    """Return the value at this place from above, -inf when there are not so many."""
    return float(np.partition(values, -count)[-count]) if count <= len(values) else -math.inf


def _mean(weights: Row, pool: Pool) -> float:
    """Return the sum of weight times logit relative to the largest."""
    relative = np.maximum(pool.logits - np.float32(pool.peak), np.float32(-1e4))
    return float(np.dot(weights, relative))


def _zipf_count(shape: float, mu: float, size: int) -> int:
    """Return the k of Mirostat (Basu et al. 2021, equation 30): ((e * 2^mu) / (1 - size^-e))^(1/s) with e = s - 1."""
    try:
        excess = shape - 1
        ratio = 1 / math.log(size) if abs(excess) < 1e-9 else excess / (1 - size**-excess)
        count = (ratio * 2**mu) ** (1 / shape)
        return min(size, max(1, int(count)))
    except (OverflowError, ZeroDivisionError, ValueError):
        return size
