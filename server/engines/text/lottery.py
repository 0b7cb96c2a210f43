"""Draws a token from a long row without weighing all of it.

Weighing 150,000 tokens takes four times as long as finding the largest of each class (`candidates.survey`). So a token
is proposed with the weight that its class's largest has, and taken with the share that its own weight is of that;
otherwise another is proposed. What is taken has exactly the distribution of the weights, since no weight is above that
of its class's largest. Classes that stand out are weighed token by token, which makes most first proposals good.
"""

import numpy as np
import numpy.typing as npt

from server.engines.text.candidates import CLASS, Ids, Row, Survey

_PROPOSALS = 64
_OUTSTANDING = 256
_TINY = float(np.finfo(np.float32).tiny)
_LOWEST = float(np.finfo(np.float32).min)


class Lottery:
    """Draws for one reply; owns its random numbers."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._random: np.random.Generator | None = None

    def draw(self, seen: Survey, bound: float, heat: float) -> int:
        """Return a token with a probability in proportion to exp(logit / heat), of those with logits from `bound` on.

        Args:
            seen: a row with classes, and with one token at least from the bound on.
            bound: -inf lets all tokens take part but those that are forbidden.
            heat: a temperature above 0.
        """
        if self._random is None:  # most replies never need any
            self._random = np.random.default_rng(self._seed)
        urn = _Urn(seen, np.float32(max(bound, _LOWEST)), np.float32(heat))
        # Where a few tokens weigh most, the first proposal is one of them: the others are not even drawn.
        proposals = self._random.random(1)
        taken = urn.among_outstanding(proposals[0])
        while taken is None:
            proposals = np.append(proposals, self._random.random(_PROPOSALS - len(proposals)))
            taken = urn.first_taken(proposals)
            proposals = proposals[:0]
        return taken


class _Urn:
    """What one row proposes: tokens of the classes that stand out, by their own weights, and members of the others."""

    def __init__(self, seen: Survey, bound: np.float32, heat: np.float32) -> None:
        self._seen, self._bound, self._heat = seen, bound, heat
        ceilings = np.exp((seen.maxima - np.float32(seen.peak)) / heat)
        if bound > _LOWEST:
            ceilings *= seen.maxima >= bound
        outstanding = ceilings > float(ceilings.sum()) / _OUTSTANDING
        outstanding[seen.classes :] = True  # what fills no class is weighed token by token as well
        numbers = outstanding.nonzero()[0]
        self._ids, values = seen.members(numbers)
        self._running = np.cumsum(self._weights(values), dtype=np.float64)
        self._inside = float(self._running[-1]) if len(self._running) else 0.0
        ceilings[numbers] = 0
        self._ceilings = ceilings[: seen.classes]
        self._total = self._inside + CLASS * float(ceilings.sum(dtype=np.float64))

    def among_outstanding(self, proposal: float) -> int | None:
        """Return what a number in 0 ... 1 proposes among what stands out; None when it proposes another token."""
        spot = proposal * self._total
        return self._outstanding(spot) if spot < self._inside else None

    def first_taken(self, proposals: npt.NDArray[np.float64]) -> int | None:
        """Return what is taken first of the proposals [n], numbers in 0 ... 1; None when none is."""
        spots = proposals * self._total
        inside = spots < self._inside
        if inside[0]:
            return self._outstanding(spots[0])
        tokens, taken = self._members(np.maximum(spots - self._inside, 0.0) / CLASS)
        place = int((taken | inside).argmax())
        if inside[place]:
            return self._outstanding(spots[place])
        return int(tokens[place]) if taken[place] else None

    def _outstanding(self, spot: float) -> int:
        place = int(np.searchsorted(self._running, spot, side="right"))
        return int(self._ids[min(place, len(self._ids) - 1)])

    def _members(self, spots: npt.NDArray[np.float64]) -> tuple[Ids, npt.NDArray[np.bool_]]:
        """Return the token that each spot [n] among the ceilings means, and whether it is taken there."""
        ends = np.cumsum(self._ceilings, dtype=np.float64)
        classes = np.minimum(np.searchsorted(ends, spots, side="right"), len(ends) - 1)
        ceilings = self._ceilings[classes]
        # How far into its class a spot lies tells the member, and how far into that one whether it is taken.
        members, heights = np.divmod((spots - ends[classes]) / np.maximum(ceilings, _TINY) * CLASS + CLASS, 1.0)
        tokens = np.clip(members, 0, CLASS - 1).astype(np.intp) * len(ends) + classes
        return tokens, heights * ceilings < self._weights(self._seen.row[tokens])

    def _weights(self, logits: Row) -> Row:
        weights = np.exp((logits - np.float32(self._seen.peak)) / self._heat)
        if self._bound > _LOWEST:
            weights *= logits >= self._bound
        return weights
