"""Which running replies move when a gap lies between them."""

import random

import pytest

from server.engines.text.neighbours import WORTH_MOVING, Move, closing_moves

MUCH = 100


@pytest.mark.parametrize(
    ("running", "fixed", "idle", "moves"),
    [
        ([], [], {0: 0, 1: 0}, []),
        ([0], [], {1: 0, 2: 0}, []),
        ([1, 2, 3], [], {0: 5, 4: 0}, []),
        ([0, 1, 3], [], {2: 0}, [Move(3, 2)]),
        ([0, 2, 3, 4], [], {1: 0, 5: 0}, [Move(4, 1)]),
        ([0, 1, 2, 5, 6], [], {3: 0, 4: 0, 7: 0}, [Move(5, 3), Move(6, 4)]),
        # a prompt that is being computed counts as a neighbour and stays where it is
        ([0, 2], [1], {3: 0}, []),
        ([0, 1], [4], {2: 0, 3: 0, 5: 0}, [Move(0, 2), Move(1, 3)]),
        ([0, 4], [1, 5], {2: 0, 3: 0}, []),
        # the sequence whose content was used least recently is overwritten
        ([0, 2], [], {1: 9, 3: 4}, [Move(0, 3)]),
        ([0, 1, 3], [], {2: 9, 4: 0}, [Move(3, 2, spare=4)]),
        ([0, 1, 3], [], {2: 9, 4: 5}, [Move(3, 2, spare=4)]),
        ([0, 1, 3], [], {2: 5, 4: 9}, [Move(3, 2)]),
    ],
)
def test_moves(running: list[int], fixed: list[int], idle: dict[int, int], moves: list[Move]) -> None:
    assert closing_moves(dict.fromkeys(running, MUCH), set(fixed), idle) == tuple(moves)


def test_a_reply_that_is_nearly_done_does_not_move() -> None:
    short = WORTH_MOVING - 1
    assert closing_moves({0: MUCH, 1: MUCH, 3: short}, set(), {2: 0, 4: 0}) == (), "the gap is gone soon"
    assert closing_moves({0: short, 2: MUCH, 3: MUCH}, set(), {1: 0, 4: 0}) == ()
    assert closing_moves({0: MUCH, 1: short, 3: MUCH}, set(), {2: 0, 4: 0}) == (Move(3, 2),)
    assert closing_moves({0: MUCH, 3: MUCH, 4: short}, set(), {1: 0, 2: 0}) == (Move(0, 2),)


def test_whatever_runs_ends_up_as_neighbours_and_only_the_oldest_contents_are_lost() -> None:
    source = random.Random(1)
    moved = 0
    for _ in range(2000):
        count = source.randint(1, 9)
        roles = [source.choice(["running", "running", "fixed", "idle", "idle"]) for _ in range(count)]
        holds = {k: f"reply {k}" if role != "idle" else f"text {k}" for k, role in enumerate(roles)}
        running = {k: MUCH for k, role in enumerate(roles) if role == "running"}
        fixed = {k for k, role in enumerate(roles) if role == "fixed"}
        idle = {k: source.randint(1, 99) for k, role in enumerate(roles) if role == "idle"}
        replies = sorted(text for text in holds.values() if text.startswith("reply"))
        moves = closing_moves(running, fixed, idle)
        for move in moves:
            assert holds[move.source].startswith("reply")
            assert move.source in running
            assert not holds[move.target].startswith("reply")
            if move.spare is not None:
                assert not holds[move.spare].startswith("reply")
                holds[move.spare] = holds[move.target]
            holds[move.target], holds[move.source] = holds[move.source], ""
        assert sorted(text for text in holds.values() if text.startswith("reply")) == replies
        if moves:
            moved += 1
            used = [k for k, text in holds.items() if text.startswith("reply")]
            assert used == list(range(used[0], used[0] + len(used)))
            lost = {k for k in idle if f"text {k}" not in holds.values()}
            assert len(lost) == len({move.target for move in moves}) - _kept(moves, idle)
    assert moved > 300


def _kept(moves: tuple[Move, ...], idle: dict[int, int]) -> int:
    """Return how many contents found a place that moves had made free."""
    return sum(move.spare is not None and move.spare not in idle for move in moves)
