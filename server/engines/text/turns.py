"""Whose turn it is among sequences that cannot be computed together, since other adapters act on them. Pure.

Each set of adapters has some steps at a time: to change the set costs the library a new plan of the whole computation.
Sets take turns in the order in which they came, so nobody starves, whoever comes and goes meanwhile.
"""

from collections.abc import Sequence

from server.core.adapters import AdapterSet
from server.engines.text.sequences import CachedSequence


class Turns:
    """The line of sets that have something to be computed. `steps` is how long a turn is while others wait."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._line: list[AdapterSet] = []
        self._used = 0

    def of(self, sequences: Sequence[CachedSequence]) -> Sequence[CachedSequence]:
        """Return those whose turn it is, all of one set. Nothing changes hands until `served` is told."""
        waiting = dict.fromkeys(sequence.scope.adapters for sequence in sequences)
        if len(waiting) < 2 and (not self._line or self._line[0] in waiting):
            return sequences
        first = self._line[0] if self._line else None
        kept = [adapters for adapters in self._line if adapters in waiting]
        self._line = kept + [adapters for adapters in waiting if adapters not in kept]
        if self._line and self._line[0] != first:
            self._used = 0
        return [sequence for sequence in sequences if sequence.scope.adapters == self._line[0]]

    def served(self, adapters: AdapterSet) -> None:
        """Note that a step was computed for a set."""
        if adapters not in self._line:
            return
        self._used += 1
        if self._used >= self._steps and len(self._line) > 1:
            self._line.remove(adapters)
            self._line.append(adapters)
            self._used = 0
