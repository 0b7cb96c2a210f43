"""How many guessed tokens are computed along with the next one, by what that costs and how often guesses come true.

One decode of a few tokens takes less time than one decode for each, since the weights are read once; how much less
depends on the machine and is measured. Guessed tokens are only kept where they are what the reply's own sampler
chooses: the reply says what it would have said. See `exactness` for the rounding of the library's kernels. Pure.
"""

from collections.abc import Sequence
from typing import NamedTuple

from server.core.text_settings import DRAFT_STREAMS

WIDTHS = (4, 8, 16)
"""Tokens of each reply in one decode, the next one included. Matrix kernels take rows in fours."""

MOST_REPLIES = DRAFT_STREAMS
MARGIN = 1.05
_MEMORY = 0.9
_FIRST_HOPE, _HOPE = 0.6, 0.8
_FRESH_PLAIN = 64
_FRESH_WIDE = 256
_STALEST_WIDE = 8192
_LARGEST_JUMP = 2.0


class Acceptance:
    """How often guesses for one reply came true, a token at a time; older ones count less.

    Guesses that are not computed count as well, where the token that came was guessed.
    """

    def __init__(self, hits: float = 0.0, trials: float = 1.0) -> None:
        """Begin as if so many of so many had come true: with one failure, so that a reply must earn its trust."""
        self._hits, self._trials = hits, trials

    @property
    def rate(self) -> float:
        """Return the share of guesses that came true, 0 ... 1."""
        return self._hits / self._trials

    def observe(self, *, right: bool) -> None:
        """Note whether the token guessed next was the one that came."""
        self._hits = _MEMORY * self._hits + right
        self._trials = _MEMORY * self._trials + 1


class Hope(NamedTuple):
    """What is expected of a guess: the first `sure` tokens come in any case, then each holds with probability `rate`.

    `length` is how many tokens it has, None for as many as are wanted.
    """

    sure: int = 0
    rate: float = 0.0
    length: int | None = None

    def tokens(self, width: int) -> float:
        """Return how many tokens a decode of `width` brings on average."""
        usable = width - 1 if self.length is None else min(width - 1, self.length)
        sure = min(self.sure, usable)
        open_ended = usable - sure + 1
        if self.rate >= 1:
            return float(sure + open_ended)
        return sure + (1 - self.rate**open_ended) / (1 - self.rate)


NO_HOPE = Hope()


class Choice(NamedTuple):
    """How many tokens of each reply are computed; `gain` is by how much faster that is than one by one."""

    width: int = 1
    gain: float = 1.0


class StepTimes:
    """Measured seconds of a decode, by the number of replies in it and the tokens of each.

    What was measured long ago is forgotten, since contexts grow and machines get busy; a width that has never paid is
    measured again ever more rarely.
    """

    def __init__(self) -> None:
        self._seconds: dict[tuple[int, int], float] = {}
        self._seen: dict[tuple[int, int], int] = {}
        self._fresh: dict[tuple[int, int], int] = {}
        self._steps = 0

    def observe(self, replies: int, width: int, seconds: float) -> None:
        """Learn from one decode; a single slow one does not weigh much."""
        self._steps += 1
        key = replies, width
        before = self.of(replies, width)
        if before is None and width > 1 and key in self._seconds:
            self._fresh[key] = min(2 * self._fresh.get(key, _FRESH_WIDE), _STALEST_WIDE)
        self._seen[key] = self._steps
        if before is None:
            self._seconds[key] = seconds
        else:
            self._seconds[key] = 0.7 * before + 0.3 * min(seconds, _LARGEST_JUMP * before)

    def of(self, replies: int, width: int) -> float | None:
        """Return the smoothed seconds, None when unknown."""
        key = replies, width
        fresh = _FRESH_PLAIN if width == 1 else self._fresh.get(key, _FRESH_WIDE)
        if self._steps - self._seen.get(key, -fresh) >= fresh:
            return None
        return self._seconds[key]


def best_width(
    hopes: Sequence[Hope],
    times: StepTimes,
    widths: Sequence[int] = WIDTHS,
    *,
    room: int,
    rows: int,
    guess_s: float = 0.0,
) -> Choice:
    """Return how many tokens of each reply are computed in one decode; 1 is no speculation.

    Args:
        hopes: for each running reply what is expected of its guess.
        times: what decodes have taken.
        widths: those to choose from, ascending.
        room: the fewest tokens that one of the replies may still have.
        rows: for how many tokens results can be had in one decode.
        guess_s: what guessing one token of all replies takes, in seconds.

    The first width that was never measured is hoped to be cheaper than the next smaller one in proportion, so that it
    is tried when that could pay.
    """
    count = len(hopes)
    plain = known = times.of(count, 1)
    if plain is None or known is None:
        return Choice()
    best, smaller = Choice(1, MARGIN), 1
    for width in widths:
        if width > room or width * count > rows:
            break
        measured = times.of(count, width)
        hope = _FIRST_HOPE if smaller == 1 else _HOPE
        seconds = (measured or hope * known * width / smaller) + guess_s * (width - 1)
        gain = sum(each.tokens(width) for each in hopes) / seconds * plain / count
        if gain > best.gain:
            best = Choice(width, gain)
        if measured is None:
            break
        known, smaller = measured, width
    return best if best.width > 1 else Choice()
