"""Whose turn it is among those who wait: owners take turns, and each owner's jobs keep their order.

An owner is the name of an API key; without keys there is one owner, and all is first come, first served. Pure.

The next place goes to the owner with the fewest jobs that run or stand before it in line, among equals to the one who
was served longest ago:

    running   waiting, in order of arrival   order of grants
    -         A1 A2 A3 B1                    A1 B1 A2 A3
    A1        A2 A3 B1 B2                    B1 B2 A2 A3      while A1 runs; B was never served
"""

from collections import Counter
from collections.abc import Iterable
from typing import Protocol, TypeVar

from server.core.jobs import JobId


class Owned(Protocol):
    """What has an owner."""

    @property
    def owner(self) -> str:
        """Return whose it is."""
        ...


Entry = TypeVar("Entry", bound=Owned)


class Turns:
    """Knows who runs how much and who was served when."""

    def __init__(self) -> None:
        self._running: dict[JobId, str] = {}
        self._served: dict[str, int] = {}
        self._grants = 0

    def granted(self, job: JobId, owner: str) -> None:
        """Note that a job runs now."""
        self._grants += 1
        self._running[job] = owner
        self._served[owner] = self._grants

    def ended(self, job: JobId) -> None:
        """Note that a job runs no more."""
        self._running.pop(job, None)

    def order(self, waiting: Iterable[Entry]) -> list[Entry]:
        """Return those who wait, given in order of arrival, in the order in which they may be served."""
        before = Counter(self._running.values())
        keyed: list[tuple[tuple[int, int], Entry]] = []
        for entry in waiting:
            keyed.append(((before[entry.owner], self._served.get(entry.owner, 0)), entry))
            before[entry.owner] += 1
        return [entry for _, entry in sorted(keyed, key=lambda pair: pair[0])]
