"""Whether a decode of several tokens gives, bit for bit, what decodes of one token each would have given.

llama.cpp chooses its kernels by how many rows there are and how long the cache is. Many give the same bits for a row
whatever stands beside it; others round differently. Measured on a CPU (AVX2, 0.5 billion weights):

    weights   cache                         difference of a logit, in standard deviations of the row
    Q4_0      f16, up to 256 tokens         none
    Q4_0      f16, longer, one thread       none
    Q4_0      f16, longer, two threads      0.005 at most (attention of a single token is split over threads)
    Q4_0      q8_0, any                     none
    F32       f16, any                      0.004 at most

So it is tried: a decode of guessed tokens is thrown away, its results are kept and compared with those of the plain
decodes that follow. What a trial showed holds for its regime: the number of replies, the tokens of each, the length of
the cache by powers of two, and whether adapters act. What rounds differently once is taken to do so in wider and longer
regimes as well.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from server.engines.text.prefix import Tokens

TRIAL_SHARE = 0.02
"""The most time that trials may take, as a share of all decodes."""

SAFETY = 8.0
"""A bound is so many times the largest difference that was seen."""

LEAST_BOUND = 0.02
"""... and at least so many standard deviations of a row: differences grow as more of the cache is affected."""

_SHORTEST_BITS = 8  # caches are padded to 256 places
_LEADERS = 16
_ENOUGH_PLACES = 2

Rows = npt.NDArray[np.float32]


class Regime(NamedTuple):
    """What the library's choice of kernels may depend on."""

    replies: int
    width: int
    bits: int
    adapted: bool = False


def regimes(replies: int, width: int, length: int, *, adapted: bool = False) -> set[Regime]:
    """Return the regimes that `width` tokens lie in behind a cache of `length` tokens, the longest of all replies'."""
    ends = (length + 1, length + width)
    return {Regime(replies, width, max(_SHORTEST_BITS, (end - 1).bit_length()), adapted) for end in ends}


class Trial:
    """The results [replies, width, vocabulary] of one decode that was thrown away, compared with plain ones.

    A result at one place shows, by the attention to them, that the cache of the tokens before it is the same too; so
    one place alone proves nothing.
    """

    def __init__(self, regime: Regime, guesses: Sequence[Tokens], rows: Rows) -> None:
        """Keep a copy of the rows; `guesses` [replies] of tokens [width] were computed, the last known one first."""
        self.regime = regime
        self.places = 0
        self.largest = 0.0
        self.same = True
        self._guesses = guesses
        self._rows = rows.copy()
        self.scale = float(self._rows[:, 0].std(axis=1).mean())

    @property
    def is_over(self) -> bool:
        """Tell whether nothing is left to be compared."""
        return self.places >= self._rows.shape[1]

    @property
    def is_telling(self) -> bool:
        """Tell whether enough was compared."""
        return not self.same or self.places >= _ENOUGH_PLACES

    def expects(self, last: Sequence[int]) -> bool:
        """Tell whether the next plain decode, of these last tokens [replies], is of the tokens that were guessed."""
        return all(token == guess[self.places] for token, guess in zip(last, self._guesses, strict=True))

    def compare(self, rows: Rows) -> None:
        """Take the results [replies, vocabulary] of the next plain decode."""
        for kept, row in zip(self._rows[:, self.places], rows, strict=True):
            if not np.array_equal(kept, row):
                self.same = False
                leaders = np.argpartition(row, -_LEADERS)[-_LEADERS:] if len(row) > _LEADERS else slice(None)
                shift = kept[leaders] - row[leaders]
                self.largest = max(self.largest, float(shift.max() - shift.min()))
        self.places += 1


class Exactness:
    """What is known of one model on this machine.

    `bound` is how far ahead of all others a token must be so that rounding cannot have put it there, in logits; 0 while
    nothing was found to round differently. `total` is what all decodes took, in seconds.
    """

    def __init__(self) -> None:
        self.bound = 0.0
        self._known: dict[Regime, bool] = {}
        self.total = 0.0
        self._spent = 0.0

    def spend(self, seconds: float, *, trial: bool) -> None:
        """Note how long a decode took."""
        self.total += seconds
        if trial:
            self._spent += seconds

    @property
    def affords_trial(self) -> bool:
        """Tell whether a trial may be made by now."""
        return self._spent <= TRIAL_SHARE * self.total

    def of(self, regime: Regime) -> bool | None:
        """Return whether a regime is exact, None when it was not tried."""
        known = self._known.get(regime)
        if known is None and any(not exact and _within(other, regime) for other, exact in self._known.items()):
            return False
        return known

    def settle(self, trial: Trial) -> None:
        """Learn from a trial that has told enough."""
        if not trial.is_telling:
            return
        self._known[trial.regime] = trial.same
        if not trial.same:
            self.bound = max(self.bound, SAFETY * trial.largest, LEAST_BOUND * trial.scale)

    def widen(self, difference: float) -> None:
        """Note a difference of two logits between the two ways, seen later."""
        self.bound = max(self.bound, SAFETY * difference)


def _within(small: Regime, large: Regime) -> bool:
    """Tell whether one regime is like another but for fewer tokens in decode or cache."""
    same = small.replies == large.replies and small.adapted == large.adapted
    return same and small.width <= large.width and small.bits <= large.bits
