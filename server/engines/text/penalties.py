"""Repeat, frequency and presence penalties: what a text has used already becomes less likely."""

from collections import deque
from collections.abc import Iterable, Sequence

import numpy as np

from server.engines.text.candidates import Row
from server.engines.text.sampling_values import Penalties


class PenaltyWindow:
    """The last tokens of a text and how often each occurs.

    As llama.cpp does: a logit is divided by the repeat penalty when positive and multiplied when not, once however
    often the token occurs; then count * frequency and presence are subtracted.
    """

    def __init__(self, penalties: Penalties) -> None:
        self._penalties = penalties
        self._recent: deque[int] = deque()
        # Token `_ids[place]` occurs `_counts[place]` times; kept as arrays, since every row needs them as such.
        self._places: dict[int, int] = {}
        self._ids = np.zeros(penalties.last_n, np.intp)
        self._counts = np.zeros(penalties.last_n, np.float32)

    def extend(self, tokens: Iterable[int]) -> None:
        """Append tokens; those that leave the window are forgotten."""
        if isinstance(tokens, Sequence | np.ndarray):
            tokens = tokens[-self._penalties.last_n :]
        for token in tokens:
            self._add(int(token))

    def apply(self, row: Row) -> None:
        """Write the penalties into a row of logits [vocabulary]."""
        used = len(self._places)
        if not used:
            return
        ids = self._ids[:used]
        values = row[ids]
        if self._penalties.repeat != 1.0:
            repeat = np.float32(self._penalties.repeat)
            values = np.where(values <= 0, values * repeat, values / repeat)
        values -= self._counts[:used] * np.float32(self._penalties.frequency) + np.float32(self._penalties.presence)
        row[ids] = values

    def _add(self, token: int) -> None:
        if len(self._recent) == self._penalties.last_n:
            self._forget(self._recent.popleft())
        self._recent.append(token)
        place = self._places.setdefault(token, len(self._places))
        self._ids[place] = token
        self._counts[place] += 1

    def _forget(self, token: int) -> None:
        place = self._places[token]
        self._counts[place] -= 1
        if self._counts[place]:
            return
        del self._places[token]
        last = len(self._places)
        if place != last:  # the last one takes the free place
            self._ids[place], self._counts[place] = self._ids[last], self._counts[last]
            self._places[int(self._ids[place])] = place
        self._counts[last] = 0
