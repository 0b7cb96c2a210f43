"""The DRY penalty: a token that would lengthen a repetition of what stands in the text becomes less likely.

The rule is that of llama.cpp's `dry` sampler. For every place in the last tokens the length is known of the longest run
that ends there and also ends the text. If that run is as long as what is allowed, the token that followed it would
repeat further, and its logit is lowered by multiplier * base ** (run - allowed). Sequence breakers end a run: nothing
is counted beyond the last one in the text, and a token that holds a whole breaker is never penalised.

llama.cpp finds all runs anew for every token and the breakers' tokens anew for every request, which takes most of a
second with a large vocabulary. Here the runs grow by one array operation a token, and breakers are found once.

    text            would be penalised
    a b c d a b     c   (run of 2)
    a b . a b       .   (run of 2; not if "." is a breaker)
"""

import bisect
import math
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from server.engines.text.candidates import Row
from server.engines.text.sampling_values import Dry

_LONGEST_BREAKER = 40
_LONGEST_TAIL = 20
_CACHED = 16
_BORDER = b"\xff"
_LARGEST_EXPONENT = 88.7228391  # the natural logarithm of the largest float32


class Words(Protocol):
    """What is needed of a vocabulary; see `Vocabulary`."""

    size: int

    def written(self, token: int) -> bytes:
        """Return the bytes of a token."""
        ...

    def tokenise(self, text: str, *, special: bool, room: int) -> npt.NDArray[np.int32]:
        """Return the ids of a text."""
        ...


class Breakers(NamedTuple):
    """Tokens that hold a breaker or begin one: `heads` [vocabulary] marks them; each has the `tails` to follow.

    A tail that is empty says that the token holds a whole breaker.
    """

    heads: npt.NDArray[np.bool_]
    tails: dict[int, tuple[tuple[int, ...], ...]]


class BreakerTable:
    """Finds the tokens of sequence breakers in one vocabulary and remembers the latest answers."""

    def __init__(self, vocabulary: Words) -> None:
        self._vocabulary = vocabulary
        self._found: OrderedDict[tuple[str, ...], Breakers] = OrderedDict()
        self._words: list[bytes] = []
        self._joined = b""
        self._starts: npt.NDArray[np.int64] = np.empty(0, np.int64)
        self._backwards: list[tuple[bytes, int]] = []

    def of(self, breakers: tuple[str, ...]) -> Breakers:
        """Return the tokens of these breakers; texts are cut at 40 bytes, as llama.cpp does."""
        found = self._found.get(breakers)
        if found is None:
            found = self._found[breakers] = self._find(breakers)
            while len(self._found) > _CACHED:
                self._found.popitem(last=False)
        self._found.move_to_end(breakers)
        return found

    def _find(self, breakers: Sequence[str]) -> Breakers:
        self._read()
        tails: dict[int, set[tuple[int, ...]]] = {}
        for breaker in breakers:
            data = breaker.encode("utf-8", "replace")[:_LONGEST_BREAKER]
            whole = self._holding(data)
            for token in whole:
                tails.setdefault(token, set()).add(())
            for size in range(1, len(data)):
                tail = self._tail(data[size:])
                for token in self._ending(data[:size]):
                    if token not in whole:
                        tails.setdefault(token, set()).add(tail)
        heads = np.zeros(self._vocabulary.size, np.bool_)
        heads[list(tails)] = True
        return Breakers(heads, {token: tuple(found) for token, found in tails.items()})

    def _read(self) -> None:
        if self._words:
            return
        self._words = [self._vocabulary.written(token) for token in range(self._vocabulary.size)]
        self._joined = _BORDER.join(self._words)
        lengths = np.array([len(word) + 1 for word in self._words], np.int64)
        self._starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        self._backwards = sorted((word[::-1], token) for token, word in enumerate(self._words) if word)

    def _holding(self, data: bytes) -> set[int]:
        """Return the tokens whose bytes contain `data`."""
        places = []
        at = self._joined.find(data)
        while at >= 0:
            places.append(at)
            at = self._joined.find(data, at + 1)
        tokens = np.searchsorted(self._starts, np.array(places, np.int64), side="right") - 1
        return {int(token) for token in np.unique(tokens) if data in self._words[token]}

    def _ending(self, data: bytes) -> list[int]:
        """Return the tokens whose bytes end with `data`."""
        backwards = data[::-1]
        first = bisect.bisect_left(self._backwards, (backwards, -1))
        found = []
        for word, token in self._backwards[first:]:
            if not word.startswith(backwards):
                break
            found.append(token)
        return found

    def _tail(self, data: bytes) -> tuple[int, ...]:
        tokens = self._vocabulary.tokenise(data.decode("utf-8", "replace"), special=False, room=_LONGEST_BREAKER)
        return tuple(int(token) for token in tokens[:_LONGEST_TAIL])


class DryWindow:
    """The last tokens of a text and the runs in it that end as the text does."""

    def __init__(self, dry: Dry, breakers: Breakers | None) -> None:
        """Begin with an empty text; without breakers nothing ends a run."""
        self._dry = dry
        self._breakers = breakers
        self._tokens: npt.NDArray[np.int64] = np.zeros(2 * dry.last_n, np.int64)
        self._runs: npt.NDArray[np.int32] = np.zeros(2 * dry.last_n, np.int32)
        self._end = 0
        self._largest = int(_LARGEST_EXPONENT / math.log(dry.base)) if dry.base > 1.000001 else 0

    def extend(self, tokens: Iterable[int]) -> None:
        """Append tokens; those that leave the window are forgotten."""
        if isinstance(tokens, Sequence | np.ndarray):
            tokens = tokens[-self._dry.last_n :]
        for token in tokens:
            self._add(int(token))

    def apply(self, row: Row) -> None:
        """Write the penalties into a row of logits [vocabulary]."""
        start = max(0, self._end - self._dry.last_n)
        window = self._tokens[start : self._end]
        if len(window) <= self._dry.allowed:
            return
        limit = self._limit(window)
        if limit < self._dry.allowed:
            return
        # A run cannot reach beyond the window's beginning, nor over a breaker.
        runs = np.minimum(self._runs[start : self._end - 1], np.arange(1, len(window), dtype=np.int32))
        runs = np.minimum(runs, limit)
        long = np.flatnonzero(runs >= self._dry.allowed)
        longest: dict[int, int] = {}
        for place in long:
            token, run = int(window[place + 1]), int(runs[place])
            if run > longest.get(token, -1):
                longest[token] = run
        for token, run in longest.items():
            if self._breakers is None or () not in self._breakers.tails.get(token, ()):
                row[token] -= np.float32(self._penalty(run))

    def _penalty(self, run: int) -> float:
        exponent = run - self._dry.allowed
        if self._largest:
            exponent = min(exponent, self._largest)
        return min(self._dry.multiplier * self._dry.base**exponent, 3e38)

    def _limit(self, window: npt.NDArray[np.int64]) -> int:
        """Return how long a run at the end of the text can be: up to the last breaker."""
        if self._breakers is None:
            return len(window)
        for place in np.flatnonzero(self._breakers.heads[window])[::-1]:
            back = len(window) - 1 - int(place)
            after = window[place + 1 :]
            longest = -1
            for tail in self._breakers.tails[int(window[place])]:
                if len(tail) <= back and all(after[k] == token for k, token in enumerate(tail)):
                    longest = max(longest, len(tail))
            if longest >= 0:
                return back - longest
        return len(window)

    def _add(self, token: int) -> None:
        if self._end == len(self._tokens):
            keep = self._dry.last_n
            self._tokens[:keep] = self._tokens[-keep:].copy()
            self._runs[:keep] = self._runs[-keep:].copy()
            self._end = keep
        start, end = max(0, self._end - self._dry.last_n + 1), self._end
        same = self._tokens[start:end] == token
        before = np.zeros(end - start, np.int32)
        before[1:] = self._runs[start : max(start, end - 1)]
        if start and end > start:
            before[0] = self._runs[start - 1]
        self._runs[start:end] = np.where(same, before + 1, 0)
        self._tokens[end] = token
        self._runs[end] = 0
        self._end = end + 1
