"""What a greedy reply does where decodes of several tokens round differently from plain ones: it says the same anyway.

The first guessed tokens leave the plain path: from there on the cache differs a little from what single decodes would
have made, and so does everything computed from it. That cannot be seen while the chosen token is far ahead of all
others. Where it is not, the reply goes back to where it left, computes its own tokens again, one at a time as it would
have without guesses, and chooses on what that gives. So it loses the time that it had gained; whether that is likely
is told by how often such places came before. Pure.
"""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

_PRIOR = 64.0
_LEAST_COMING = 32
_USUAL_MEMORY = 2048.0
_FIRST_GUESS = 1 / 256


class Doubt(NamedTuple):
    """Two tokens that could not be told apart, and how far the first was ahead, in logits."""

    first: int
    second: int
    ahead: float


LOSS_SHARE = 0.01
"""What going back may cost, less what was gained by not having to, as a share of all time."""


class Footing:
    """Where one reply stands.

    `since` is how many tokens of its cache are what plain decodes make, None = all of them. `again` are the tokens that
    are to be computed again. `doubt` is why. `won` is what counts as gained, in seconds, unless it goes back.
    """

    def __init__(self) -> None:
        self.since: int | None = None
        self.again: deque[int] = deque()
        self.doubt: Doubt | None = None
        self.won = 0.0
        self._left_at = 0.0
        self._ties = self._chosen = 0

    def observe(self, *, tie: bool) -> None:
        """Note whether a token was chosen that was not far ahead."""
        self._chosen += 1
        self._ties += tie

    def leave(self, length: int, now: float = 0.0) -> None:
        """Note that what comes behind so many tokens of the cache is computed otherwise, from `now` on (seconds)."""
        if self.since is None:
            self.since = length
            self._left_at = now

    def stake(self, now: float) -> float:
        """Return the seconds that are lost by going back now."""
        return now - self._left_at + self.won

    def go_back(self, tokens: Sequence[int]) -> None:
        """Take the tokens of the cache from `since` on, the last of them the one behind which the doubt arose."""
        self.again.extend(tokens)

    def computed(self) -> bool:
        """Note that the next token was computed again; True when it was the last, and all is as it should be."""
        self.again.popleft()
        if self.again:
            return False
        self.since = None
        self.won = 0.0
        return True

    def risk(self, left: int, usual: float) -> float:
        """Return the probability that the reply has to go back if it leaves now.

        It is expected to go on for as long as it has until now, at most for `left` tokens. `usual` is the share of such
        places in other replies.
        """
        share = (self._ties + _PRIOR * usual) / (self._chosen + _PRIOR)
        return float(1.0 - (1.0 - share) ** min(left, max(self._chosen, _LEAST_COMING)))


class TieRate:
    """How often tokens were not far ahead, over all replies to a model; old ones are forgotten."""

    def __init__(self) -> None:
        self.share = _FIRST_GUESS
        self._weight = 1 / _FIRST_GUESS

    def observe(self, *, tie: bool) -> None:
        """Note one chosen token."""
        self._weight = min(self._weight + 1, _USUAL_MEMORY)
        self.share += (tie - self.share) / self._weight


class Balance:
    """What leaving the plain path has brought by now, in seconds, over all replies."""

    def __init__(self) -> None:
        self._gained = 0.0

    def win(self, footing: Footing, seconds: float) -> None:
        """Note what a step saves a reply that has left."""
        footing.won += seconds
        self._gained += seconds

    def lose(self, footing: Footing, now: float) -> None:
        """Note that a reply goes back."""
        self._gained -= footing.stake(now)

    def affords(self, now: float) -> bool:
        """Tell whether another reply may take the risk; `now` is the time of all decodes."""
        return self._gained >= -LOSS_SHARE * now
