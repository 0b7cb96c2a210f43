"""Automata of what lexemes read: which characters may come first, follow, be the last; and two of them side by side."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from server.engines.text.gbnf_tree import Chars, Choice, Node, Repeat, Series


class Pairs:
    """Pairs of edges that are still to be looked at; each comes once."""

    def __init__(self) -> None:
        self._seen: set[tuple[int, int]] = set()
        self._pending: list[tuple[int, int]] = []

    def add(self, ones: Sequence[int], others: Sequence[int]) -> int:
        """Add each of some with each of others; return how many pairs that takes to look at."""
        fresh = {(a, b) if a <= b else (b, a) for a in ones for b in others} - self._seen
        self._seen |= fresh
        self._pending.extend(fresh)
        return len(ones) * len(others)

    def take(self) -> tuple[int, int] | None:
        """Return the next pair, None when there is none."""
        return self._pending.pop() if self._pending else None


class Net:
    """States joined by steps that read nothing, and by edges (target, label) that read something.

    `leads` is for what is found out about states. A net must be laid out whole before `following` is asked.
    """

    def __init__(self) -> None:
        self.leads: dict[int, int] = {}
        self.edges: list[tuple[int, int]] = []
        self._leaving: list[list[int]] = []
        self._joined: list[list[int]] = []
        self._found: dict[int, tuple[list[int], set[int]]] = {}

    def state(self) -> int:
        """Return a new state."""
        self._leaving.append([])
        self._joined.append([])
        return len(self._joined) - 1

    def join(self, one: int, other: int) -> None:
        """Let one state be left for another without reading."""
        self._joined[one].append(other)

    def edge(self, at: int, label: int) -> int:
        """Return the new state that is reached from one by reading what the label says."""
        end = self.state()
        self._leaving[at].append(len(self.edges))
        self.edges.append((end, label))
        return end

    def spread(self, node: Node, at: int, below: Callable[[Node, int], int]) -> int:
        """Lay a series, choice or repetition; `below` lays what is in it."""
        match node:
            case Series(items=items):
                for item in items:
                    at = below(item, at)
                return at
            case Choice(options=options):
                end = self.state()
                for option in options:
                    self.join(below(option, at), end)
                return end
            case Repeat(item=item, least=least, most=most):
                begin, end = self.state(), self.state()
                self.join(at, begin)
                last = below(item, begin)
                self.join(last, end)
                if most is None or most > 1:
                    self.join(last, begin)
                if least == 0:
                    self.join(begin, end)
                return end
        raise ValueError("there is nothing to lay")

    def following(self, state: int) -> tuple[list[int], set[int]]:
        """Return the edges that can be taken from a state on, and all states that are reached without reading."""
        if (found := self._found.get(state)) is not None:
            return found
        seen, pending, edges = {state}, [state], []
        while pending:
            at = pending.pop()
            edges += self._leaving[at]
            for other in self._joined[at]:
                if other not in seen:
                    seen.add(other)
                    pending.append(other)
        self._found[state] = edges, seen
        return edges, seen


class Positions(NamedTuple):
    """The characters in a regular tree: which may come first, which may follow each, which may be the last."""

    first: list[int]
    follow: list[list[int]]
    last: list[bool]
    leads: list[int]


class Meeting(NamedTuple):
    """Two lexemes that begin at one place: what either goes on with where the other ends, and whether both can end."""

    first_goes_on: int
    second_goes_on: int
    end_together: bool


def positions_of(tree: Node) -> Positions:
    """Return Glushkov's automaton of a regular tree, repetitions taken as endless."""
    net = Net()

    def lay(node: Node, at: int) -> int:
        return net.edge(at, node.leads) if isinstance(node, Chars) else net.spread(node, at, lay)

    begin = net.state()
    end = lay(tree, begin)
    reached = [net.following(target) for target, _ in net.edges]
    return Positions(
        first=net.following(begin)[0],
        follow=[edges for edges, _ in reached],
        last=[end in states for _, states in reached],
        leads=[label for _, label in net.edges],
    )


def meet(one: Positions, two: Positions) -> tuple[Meeting, int]:
    """Read the same text by both as far as that goes; return what comes of it and how many pairs were looked at."""
    pending = [(a, b) for a in one.first for b in two.first if one.leads[a] & two.leads[b]]
    seen = set(pending)
    work = len(one.first) * len(two.first)
    first_goes_on = second_goes_on = 0
    end_together = False
    while pending:
        a, b = pending.pop()
        if one.last[a]:
            for place in two.follow[b]:
                second_goes_on |= two.leads[place]
        if two.last[b]:
            for place in one.follow[a]:
                first_goes_on |= one.leads[place]
        work += (1 + len(one.follow[a])) * (1 + len(two.follow[b]))
        end_together = end_together or (one.last[a] and two.last[b])
        fresh = {(c, d) for c in one.follow[a] for d in two.follow[b] if one.leads[c] & two.leads[d]} - seen
        seen |= fresh
        pending.extend(fresh)
    return Meeting(first_goes_on, second_goes_on, end_together), work
