"""What the next `llama_decode` computes: prompts or next tokens, and how much of each prompt. Pure.

Prompt tokens and next tokens never share a call: mixed batches are slower on CPUs (engine notes, sections 2 and 3).
While nobody waits for a next token, prompts get whole micro-batches. When one comes while replies run, the two
alternate, and its steps are cut so that the streams stall for `STALL_S`, or on slow machines for as long as
`EFFICIENT_CHUNK` tokens take, which is what a step needs to be at full speed, but no longer than `LONGEST_STALL_S`.

Prompts that were there when the running replies began go first: decodes of many are cheaper a token than decodes of
few, so requests that come together are all answered sooner. The first of them wait `BURST_STALL_S` and a step between
two tokens. Time is an argument.
"""

from collections.abc import Sequence
from typing import NamedTuple

STALL_S = 0.3
LONGEST_STALL_S = 1.0
BURST_STALL_S = 2.0
SAME_BURST_S = 0.1
EFFICIENT_CHUNK = 128
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
        return EFFICIENT_CHUNK if self._rate is None else int(self._rate * seconds)


def came_together(*, answering_since: Sequence[float], prompts_since: Sequence[float]) -> bool:
    """Tell whether no unfinished prompt came after the running replies had begun.

    A step takes long; what arrives meanwhile is seen after it, a moment behind the first token that it gave.

    Args:
        answering_since: when each running reply had its first token, in seconds.
        prompts_since: when each unfinished prompt got its sequence.
    """
    if not prompts_since or not answering_since:
        return True
    return max(prompts_since) <= min(answering_since) + SAME_BURST_S


def next_step(
    prompts: Sequence[Pending],
    *,
    running: int,
    stalled_s: float,
    burst: bool,
    after_decode: bool,
    pace: Pace,
    batch: int,
) -> Prefill | Decode | None:
    """Return what to compute now, None when there is nothing.

    Args:
        prompts: unfinished prompts, oldest request first.
        running: how many replies wait for their next token.
        stalled_s: seconds since they got their last one.
        burst: whether prompts and replies came together, see `came_together`.
        after_decode: whether the last step served the replies; then prompts get a step, so that both go on.
        pace: the measured speed of prompts.
        batch: tokens of one micro-batch.
    """
    if not prompts:
        return Decode() if running else None
    if not running:
        return _share_out(prompts, batch)
    if burst:
        return _share_out(prompts, batch) if after_decode or stalled_s < BURST_STALL_S else Decode()
    budget = pace.tokens_in(STALL_S - stalled_s)
    if budget < EFFICIENT_CHUNK:
        if not after_decode:
            return Decode()
        budget = max(min(EFFICIENT_CHUNK, pace.tokens_in(LONGEST_STALL_S)), SMALLEST_CHUNK)
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
