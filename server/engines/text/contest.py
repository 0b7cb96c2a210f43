"""`best_of`: more continuations are drawn than are sent; the ones with the highest mean logprob win."""

import msgspec

from server.core.jobs import JobEvent, Outcome


class Contest:
    """Holds back the events of all replies to one prompt until the last has ended, then lets the winners' go."""

    def __init__(self, replies: int, winners: int, first_choice: int) -> None:
        """Expect so many replies; the winners get the choices from `first_choice` on, the best first."""
        self._left = replies
        self._winners = winners
        self._first = first_choice
        self._events: dict[int, list[JobEvent]] = {}
        self._means: dict[int, float] = {}

    def feed(self, choice: int, events: list[Outcome]) -> None:
        """Take events of the reply that has this number in the contest."""
        held = self._events.setdefault(choice, [])
        held += [event for event in events if isinstance(event, JobEvent)]

    def end(self, choice: int, mean: float) -> list[Outcome]:
        """Note that a reply has ended with this mean logprob; return the winners' events after the last one."""
        self._means[choice] = mean
        self._left -= 1
        if self._left:
            return []
        ranked = sorted(self._means, key=lambda number: (-self._means[number], number))
        return [
            JobEvent(held.job, msgspec.structs.replace(held.event, choice=self._first + rank))
            for rank, number in enumerate(ranked[: self._winners])
            for held in self._events.get(number, [])
        ]
