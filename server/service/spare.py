"""What the scheduler knows of the spare worker: is there one, for whom, what does it hold. Pure.

A spare is started when nothing goes on and there is room for it. It counts in the budget like a model, and is the
first to go when a model or a job wants its room. A model of its runtime is loaded into it; then it is none any more.
It may hold memory ready for that model's weights, where the budget has it to spare.
"""

from collections.abc import Mapping

from server.core.memory import RAM, PoolId, add
from server.service.decisions import Cool, SpareGone, SpareReady, SpareStarted, SpareWanted, Warm

MOST_DEATHS = 3
"""Spares that may end by themselves; a machine on which they do is better off without."""

NOTHING: Mapping[PoolId, int] = {}


class Spare:
    """At most one spare worker, from the decision to start it until its process is gone or has become a model's."""

    def __init__(self) -> None:
        self._number = 0
        self._there = False
        self._started = False
        self._leaving = False
        self._runtime = ""
        self._held = NOTHING
        self._deaths = 0

    @property
    def held(self) -> Mapping[PoolId, int]:
        """Return what it holds, on its way out, too."""
        return self._held if self._there else NOTHING

    @property
    def staying(self) -> Mapping[PoolId, int]:
        """Return what it holds as long as nobody asks it to leave."""
        return NOTHING if self._leaving else self.held

    @property
    def may_start(self) -> bool:
        """Tell whether there is none, and those before did not die too often."""
        return not self._there and self._deaths < MOST_DEATHS

    def fits(self, runtime: str) -> bool:
        """Tell whether a model of this runtime can be loaded into it."""
        return self._there and self._started and not self._leaving and runtime == self._runtime

    def start(self, wanted: SpareWanted) -> list[Warm | Cool]:
        """Have it started with all that is wanted."""
        self._number += 1
        self._there, self._started, self._leaving = True, False, False
        self._runtime, self._held = wanted.runtime, add([wanted.need, {RAM: wanted.room}])
        return [Warm(self._number, wanted.runtime, wanted.room)]

    def note(self, event: SpareStarted | SpareReady | SpareGone) -> None:
        """Take in news of it; those of an earlier one are ignored, but for its death."""
        if isinstance(event, SpareGone) and event.died:
            self._deaths += 1
        if event.number != self._number or not self._there:
            return
        match event:
            case SpareStarted():
                self._started = True
            case SpareReady(held=held):
                self._held = held
            case SpareGone():
                self._there = False

    def take(self) -> None:
        """Make it a model's."""
        self._there = False

    def leave(self) -> list[Warm | Cool]:
        """Have it ended, once."""
        if not self._there or self._leaving:
            return []
        self._leaving = True
        return [Cool(self._number)]
