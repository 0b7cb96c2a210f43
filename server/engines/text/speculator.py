"""Guesses at what running replies say next, and what came of them; see `lookup` and `speculation` for the rules."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from server.engines.text.lookup import guess
from server.engines.text.prefix import Tokens
from server.engines.text.sequences import CachedSequence
from server.engines.text.speculation import MOST_REPLIES, WIDTHS, StepTimes, best_width


class Ahead(NamedTuple):
    """What one decode computes of each running reply: its last token and `width` - 1 guessed ones.

    `guesses` [replies] have one token more than that at least; None for a reply without one.
    """

    width: int
    guesses: Sequence[Tokens | None]

    def tokens(self, number: int, last: int) -> Tokens:
        """Return the tokens [width] to be computed of a reply; without a guess its last one fills the place."""
        tokens = np.full(self.width, last, np.int32)
        found = self.guesses[number]
        if found is not None:
            tokens[1:] = found[: self.width - 1]
        return tokens


class Speculator:
    """Decides for one engine. `rows` is for how many tokens one decode gives results; `wanted` may be taken back."""

    def __init__(self, *, rows: int, wanted: bool) -> None:
        self.wanted = wanted
        self._rows = rows
        self._times = StepTimes()

    def ahead(self, running: Sequence[CachedSequence]) -> Ahead:
        """Return how far the next decode goes. Many replies fill a decode by themselves: nothing is guessed then.

        Nor where a seed promises that the same tokens are drawn again: kernels for one token and for several round
        differently (by 0.01 in a logit), and what is computed when depends on measured times.
        """
        replies = [sequence.reply for sequence in running if sequence.reply is not None]
        if not self.wanted or len(running) > MOST_REPLIES or any(reply.seeded for reply in replies):
            return Ahead(1, [None] * len(running))
        guesses = [
            guess(sequence.text(reply.last_token), WIDTHS[-1]) for sequence, reply in zip(running, replies, strict=True)
        ]
        rates = [0.0 if found is None else reply.acceptance.rate for found, reply in zip(guesses, replies, strict=True)]
        room = min(reply.left for reply in replies)
        return Ahead(best_width(rates, self._times, room=room, rows=self._rows), guesses)

    def observe(self, replies: int, width: int, seconds: float) -> None:
        """Note how long a decode took."""
        if self.wanted and replies <= MOST_REPLIES:
            self._times.observe(replies, width, seconds)
