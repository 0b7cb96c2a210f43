"""How many guessed tokens are computed along with the next one, by what that costs and how often guesses come true.

One decode of a few tokens takes less time than one decode for each, since the weights are read once; how much less
depends on the machine and is measured. Guessed tokens are only kept where they are what the reply's own sampler
chooses: the reply says what it would have said, but for the rounding of the library's kernels.
"""

from collections.abc import Sequence

WIDTHS = (4, 8, 16)
"""Tokens of each reply in one decode, the next one included. Matrix kernels take rows in fours."""

MOST_REPLIES = 4
MARGIN = 1.05
_MEMORY = 0.9
_HOPE = 0.8
_FRESH_PLAIN = 64
_FRESH_WIDE = 256
_LARGEST_JUMP = 2.0


class Acceptance:
    """How often guesses for one reply came true, a token at a time; older ones count less.

    It begins with one failure, so that a reply must earn its trust; guesses that are not computed count as well.
    """

    def __init__(self) -> None:
        self._hits, self._trials = 0.0, 1.0

    @property
    def rate(self) -> float:
        """Return the share of guesses that came true, 0 ... 1."""
        return self._hits / self._trials

    def observe(self, *, right: bool) -> None:
        """Note whether the token guessed next was the one that came."""
        self._hits = _MEMORY * self._hits + right
        self._trials = _MEMORY * self._trials + 1


class StepTimes:
    """Measured seconds of a decode, by the number of replies in it and the tokens of each.

    What was measured long ago is forgotten, since contexts grow and machines get busy.
    """

    def __init__(self) -> None:
        self._seconds: dict[tuple[int, int], float] = {}
        self._seen: dict[tuple[int, int], int] = {}
        self._steps = 0

    def observe(self, replies: int, width: int, seconds: float) -> None:
        """Learn from one decode; a single slow one does not weigh much."""
        self._steps += 1
        key = replies, width
        before = self.of(replies, width)
        self._seen[key] = self._steps
        if before is None:
            self._seconds[key] = seconds
        else:
            self._seconds[key] = 0.7 * before + 0.3 * min(seconds, _LARGEST_JUMP * before)

    def of(self, replies: int, width: int) -> float | None:
        """Return the smoothed seconds, None when unknown."""
        fresh = _FRESH_PLAIN if width == 1 else _FRESH_WIDE
        if self._steps - self._seen.get((replies, width), -fresh) >= fresh:
            return None
        return self._seconds[replies, width]


def best_width(rates: Sequence[float], times: StepTimes, *, room: int, rows: int) -> int:
    """Return how many tokens of each reply are computed in one decode; 1 is no speculation.

    Args:
        rates: for each running reply the share of guesses that come true, 0 for one without a guess.
        times: what decodes have taken.
        room: the fewest tokens that one of the replies may still have.
        rows: for how many tokens results can be had in one decode.

    The first width that was never measured is hoped to be a little cheaper than the next smaller one in proportion, so
    that it is tried when that could pay.
    """
    count = len(rates)
    known = times.of(count, 1)
    if known is None:
        return 1
    best, speed, smaller = 1, MARGIN * count / known, 1
    for width in WIDTHS:
        if width > room or width * count > rows:
            break
        measured = times.of(count, width)
        seconds = measured or _HOPE * known * width / smaller
        reached = sum(_expected(rate, width) for rate in rates) / seconds
        if reached > speed:
            best, speed = width, reached
        if measured is None:
            break
        known, smaller = measured, width
    return best


def _expected(rate: float, width: int) -> float:
    """Return how many tokens one decode brings on average when each guess holds with this probability."""
    return float(width) if rate >= 1 else (1 - rate**width) / (1 - rate)
