"""Which sequence takes a new prompt, and what it inherits from another's cache. Pure: asked more often than acted on.

Sequences keep their prompt when their reply has ended, so a later prompt that begins alike need not be computed again.
A prompt that shares a prefix with one that is being computed right now waits for it: computing a shared prefix once is
six times faster than computing it in every sequence (engine notes, section 2).

Two wishes compete for the choice of the sequence. Running sequences should have neighbouring numbers, because llama.cpp
splits a batch at every gap (a factor of 2 in the token rate); that comes first. Among equals, the one whose content is
worth least is overwritten: empty, or mostly taken over by the new prompt anyway, or longest unused.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from server.core.adapters import NO_ADAPTERS, AdapterSet

Tokens = npt.NDArray[np.int32]

WORTH_WAITING = 32
WORTH_COPYING = 32


class Scope(NamedTuple):
    """Whose caches a prompt may share: those of the same name that were computed under the same adapters."""

    name: str = ""
    adapters: AdapterSet = NO_ADAPTERS


class SlotView(NamedTuple):
    """What the choice needs to know of one sequence.

    `tokens` [n] are in its cache; `promised` [m] is the whole prompt while it is being computed, None otherwise.
    `last_used` grows with time. `id` is its number in llama.cpp. What is in a `foreign` one belongs to another scope:
    it may be overwritten but is never looked at, or the time of an answer would tell whether another user asked alike;
    and what other adapters had a part in would be wrong.
    """

    id: int
    tokens: Tokens
    promised: Tokens | None = None
    live: bool = False
    last_used: int = 0
    foreign: bool = False

    def shares(self, prompt: Tokens) -> int:
        """Return how many tokens of a prompt [n] its cache begins with."""
        return 0 if self.foreign else common_prefix(prompt, self.tokens)

    def will_share(self, prompt: Tokens) -> int:
        """Return how many tokens of a prompt [n] its cache will begin with once its own prompt is computed."""
        return 0 if self.foreign or self.promised is None else common_prefix(prompt, self.promised)


class Placement(NamedTuple):
    """Run the prompt in sequence `slot`; the first `shared` tokens come from the cache of `source` (maybe itself)."""

    slot: int
    source: int
    shared: int


def common_prefix(a: Tokens, b: Tokens) -> int:
    """Return how many tokens [n] and [m] have in common at the beginning."""
    length = min(len(a), len(b))
    if length == 0:
        return 0
    differs = a[:length] != b[:length]
    first = int(differs.argmax())
    return first if differs[first] else length


def place(prompt: Tokens, slots: Sequence[SlotView], *, reuse: bool = True, whole: bool = False) -> Placement | None:
    """Choose where a prompt [n] runs; None when it had better wait, or when no sequence is idle.

    At least the last token of the prompt is always computed, since its logits are needed. Without `reuse` nothing
    is inherited and nobody waits. With `whole` (models with a state, which cannot be cut) a text is inherited as it is
    or not at all; nobody waits then either, for what is being computed will have gone on.
    """
    idle = [slot for slot in slots if not slot.live]
    if not idle:
        return None
    limit = len(prompt) - 1

    def usable(slot: SlotView) -> int:
        have = min(slot.shares(prompt), limit) if reuse else 0
        return have if not whole or have == len(slot.tokens) else 0

    source, shared = None, 0
    later = 0
    for slot in slots if reuse else ():
        have = usable(slot)
        if have > shared or (have == shared and have and not slot.live and source is not None and source.live):
            source, shared = slot, have
        later = max(later, 0 if whole else min(slot.will_share(prompt), limit))
    if later >= shared + WORTH_WAITING:
        return None
    chosen = _cheapest(idle, {slot.id for slot in slots if slot.live}, source, shared)
    if source is None or (source.id != chosen.id and shared < WORTH_COPYING):
        # A prompt that is not worth a copy may still begin like what the chosen sequence holds.
        return Placement(chosen.id, chosen.id, usable(chosen))
    return Placement(chosen.id, source.id, shared)


def _cheapest(idle: list[SlotView], live: set[int], source: SlotView | None, shared: int) -> SlotView:
    def cost(slot: SlotView) -> tuple[int, int, bool, int]:
        neighbours = (slot.id - 1 in live) + (slot.id + 1 in live)
        own = source is not None and slot.id == source.id
        worthless = len(slot.tokens) == 0 or (own and 2 * shared >= len(slot.tokens))
        return -neighbours, 0 if worthless else slot.last_used, not own, slot.id

    return min(idle, key=cost)
