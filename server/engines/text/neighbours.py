"""Which running sequences move so that all have neighbouring numbers again. Pure: asked before every decode.

llama.cpp computes a batch in as many parts as there are gaps between the sequences in it, and each part reads all
weights (engine notes, section 3: a factor of up to 2). A reply that ends may leave such a gap. A move copies the whole
cache of one sequence, which costs about as much as one step, so it must pay off.
"""

from collections.abc import Mapping, Set
from typing import NamedTuple

WORTH_MOVING = 16


class Move(NamedTuple):
    """Let what runs in sequence `source` go on in `target`; what that holds goes to `spare` before, None: is lost."""

    source: int
    target: int
    spare: int | None = None


def closing_moves(running: Mapping[int, int], fixed: Set[int], idle: Mapping[int, int]) -> tuple[Move, ...]:
    """Return the fewest moves after which all sequences that are in use are neighbours; none when they are already.

    Args:
        running: how many tokens the reply in each sequence may still have, by the sequence's number.
        fixed: sequences whose prompt is being computed; they stay where they are.
        idle: when each other sequence was used last, 0 when nothing is lost with its content.

    When contents must be lost, they are those that were used least recently.
    """
    used = running.keys() | fixed
    lasting = {number for number, left in running.items() if left >= WORTH_MOVING} | fixed
    if _are_neighbours(used) or _are_neighbours(lasting):
        return ()
    numbers = sorted(used | idle.keys())
    windows = [numbers[first : first + len(used)] for first in range(len(numbers) - len(used) + 1)]
    choices = [
        ([source for source in running if source not in window], [target for target in window if target in idle])
        for window in map(set, windows)
        if fixed <= window
    ]
    worthwhile = [pair for pair in choices if lasting.issuperset(pair[0])]
    if not worthwhile:
        return ()
    sources, targets = min(worthwhile, key=lambda pair: (len(pair[0]), sum(idle[target] for target in pair[1])))
    return _with_spares(sorted(sources), sorted(targets), dict(idle))


def _are_neighbours(numbers: Set[int]) -> bool:
    return not numbers or max(numbers) - min(numbers) + 1 == len(numbers)


def _with_spares(sources: list[int], targets: list[int], idle: dict[int, int]) -> tuple[Move, ...]:
    """Pair the sources with the targets, and find a place for what each target holds where something is worth less."""
    free = {number: used for number, used in idle.items() if number not in targets}
    moves = []
    for source, target in zip(sources, targets, strict=True):
        oldest = min(free, key=lambda number: (free[number], number), default=target)
        spare = oldest if free.get(oldest, idle[target]) < idle[target] else None
        if spare is not None:
            free[spare] = idle[target]
        free[source] = 0
        moves.append(Move(source, target, spare))
    return tuple(moves)
