"""What the next `llama_decode` computes: prompts or next tokens, and how much of each prompt. Pure.

Prompt tokens and next tokens never share a call: mixed batches are slower on CPUs (engine notes, sections 2 and 3).
While nobody waits for a next token, prompts get whole micro-batches. Otherwise the two alternate, and a prompt step is
cut so that running streams stall no longer than `STALL_S`. Prompts that were there before a reply began come first:
requests that arrive together are all answered sooner, for decodes of many are cheaper a token than decodes of few; the
first of them wait up to `BURST_STALL_S` between two tokens. Time is an argument.
"""

from collections.abc import Sequence
from typing import NamedTuple

STALL_S = 0.3
BURST_STALL_S = 2.0
FIRST_CHUNK = 128
SMALLEST_CHUNK = 32


class Pending(NamedTuple):
    """A sequence whose prompt still has `tokens` to be computed."""

    slot: int
    tokens: int


class Prefill(NamedTuple):
    """Compute the next tokens of these prompts; `parts` are in ascending order of their sequence."""

    parts: tuple[Pending, ...]


class Decode(NamedTuple):
    """Compute the next token of every running reply."""


class Pace:
    """Measures how fast prompts are computed, in tokens a second, smoothed."""

    def __init__(self) -> None:
        self._rate: float | None = None

    def observe(self, tokens: int, seconds: float) -> None:
        """Learn from one prompt step; steps too small to tell are ignored."""
        if tokens < SMALLEST_CHUNK or seconds <= 0:
            return
        rate = tokens / seconds
        self._rate = rate if self._rate is None else 0.7 * self._rate + 0.3 * rate

    def tokens_in(self, seconds: float) -> int:
        """Return how many prompt tokens fit into a time; a guess before anything was measured."""
        if seconds <= 0:
            return 0
        return FIRST_CHUNK if self._rate is None else int(self._rate * seconds)


def patience(*, answering_since: Sequence[float], prompts_since: Sequence[float]) -> float:
    """Return how many seconds running replies may wait for unfinished prompts.

    Args:
        answering_since: when each running reply had its first token.
        prompts_since: when each unfinished prompt got its sequence.
    """
    came_later = prompts_since and answering_since and max(prompts_since) > min(answering_since)
    return STALL_S if came_later else BURST_STALL_S


def next_step(
    prompts: Sequence[Pending],
    *,
    running: int,
    stalled_s: float,
    patience_s: float,
    after_decode: bool,
    pace: Pace,
    batch: int,
) -> Prefill | Decode | None:
    """Return what to compute now, None when there is nothing.

    Args:
        prompts: unfinished prompts, oldest request first.
        running: how many replies wait for their next token.
        stalled_s: seconds since they got their last one.
        patience_s: seconds that they may wait, see `patience`.
        after_decode: whether the last step served them; then a prompt gets at least a small part, so that both go on.
        pace: the measured speed of prompts.
        batch: tokens of one micro-batch.
    """
    if not prompts:
        return Decode() if running else None
    if not running:
        return _share_out(prompts, batch)
    budget = pace.tokens_in(patience_s - stalled_s)
    if budget < SMALLEST_CHUNK:
        if not after_decode:
            return Decode()
        budget = SMALLEST_CHUNK
    return _share_out(prompts, min(budget, batch))


def _share_out(prompts: Sequence[Pending], budget: int) -> Prefill:
    """Give the oldest prompts what they need until the budget is used up."""
    parts: list[Pending] = []
    for pending in prompts:
        if budget <= 0:
            break
        count = min(pending.tokens, budget)
        parts.append(Pending(pending.slot, count))
        budget -= count
    return Prefill(tuple(sorted(parts)))
