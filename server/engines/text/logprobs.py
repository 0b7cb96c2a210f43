"""Logarithms of probabilities: the log-softmax of the raw logits, before bias, penalties, masks and temperature.

Exponentials are taken in float32, relative to the largest logit, and summed up pairwise, which is good to 1e-6; the
rest is in float64. What is told beside a token are the most likely ones at its place, best first.
"""

import math
from collections.abc import Callable

import numpy as np

from server.core.text import LikelyToken, TokenLogprob
from server.engines.text.candidates import Row, best_of, survey, weight_sum

Piece = Callable[[int], bytes]


def normaliser(row: Row, peak: float) -> float:
    """Return the logarithm of the sum of the exponentials of logits [vocabulary], the largest of which is `peak`."""
    return peak + math.log(weight_sum(row, peak)) if math.isfinite(peak) else peak


class LogprobReader:
    """Tells the logprobs of one reply's tokens.

    A row is held before the choice, which overwrites it; the token is known after.
    """

    def __init__(self, piece: Piece, top: int) -> None:
        """Prepare to tell of the `top` most likely tokens beside each chosen one; `piece` gives a token's bytes."""
        self._piece = piece
        self._top = top
        self._kept = np.empty(0, np.float32)
        self._row: Row | None = None
        self.total = 0.0
        self.count = 0

    @property
    def mean(self) -> float:
        """Return the mean logprob of all tokens read so far, -inf when there was none."""
        return self.total / self.count if self.count else -math.inf

    def hold(self, row: Row) -> None:
        """Keep a copy of the logits [vocabulary] of the next token."""
        if len(self._kept) != len(row):
            self._kept = np.empty_like(row)
        np.copyto(self._kept, row)
        self._row = self._kept

    def read(self, token: int) -> TokenLogprob | None:
        """Return the logprob of the token that was chosen at the held row; None when none is held."""
        row, self._row = self._row, None
        if row is None:
            return None
        told = self.of(row, token)
        if told.logprob is not None:
            self.total += told.logprob
            self.count += 1
        return told

    def of(self, row: Row, token: int) -> TokenLogprob:
        """Return the logprob of a token at a row [vocabulary] of raw logits."""
        seen = survey(row)
        base = normaliser(row, seen.peak)
        best = best_of(seen, self._top).tolist() if self._top else []
        top = tuple(LikelyToken(other, self._piece(other), float(row[other]) - base) for other in best)
        return TokenLogprob(token, self._piece(token), float(row[token]) - base, top)

    def first(self, token: int) -> TokenLogprob:
        """Return what is told of a prompt's first token, which nothing predicts."""
        return TokenLogprob(token, self._piece(token), None)
