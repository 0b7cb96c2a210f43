"""Brownian motion over sigma that gives the same path whatever points are asked for, and in whatever order.

The path is a binary tree over [low, high]: the increment of the whole is drawn, then each interval is halved and the
increment of its left half drawn given its own (a Brownian bridge). Each node's seed comes from the root seed and its
place in the tree, so nothing but the seed need be kept. Numbers equal those of torchsde 0.2.6's `BrownianTree` (Li et
al., "Scalable gradients for stochastic differential equations", 2020) at its tolerance of 1e-6; see the tests.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch

Draw = Callable[[int], torch.Tensor]
"""From a node's seed to standard normals of one picture's latent shape [C, h, w]."""

BrownianNoise = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""From two sigmas (0-dimensional float32) to unit-variance noise [batch, C, h, w] of the step between them."""

_DIGITS = 6  # torchsde rounds times to its tolerance; points closer than this are one point
_POOL = 24
_KEPT = 64  # about two root-to-leaf paths: the next query starts where the last one ended


class _Node(NamedTuple):
    start: float
    end: float
    place: int  # from the left, among the nodes of its depth
    depth: int


class BrownianTree:
    """One path of one picture."""

    def __init__(self, low: float, high: float, entropy: int, draw: Draw) -> None:
        # A1111 cannot seed a tree with a negative number at all; here it wraps.
        self._entropy = entropy % 2**64
        self._draw = draw
        self._root = _Node(round(low, _DIGITS), round(high, _DIGITS), 0, 0)
        seed = np.random.SeedSequence(entropy=self._entropy, pool_size=_POOL).generate_state(3)[0]
        self._whole = draw(int(seed)) * math.sqrt(high - low)
        self._kept: OrderedDict[tuple[int, int], torch.Tensor] = OrderedDict()

    def increment(self, start: float, end: float) -> torch.Tensor:
        """Return W(end) - W(start), [C, h, w], for start <= end; both are clipped to the tree's range."""
        ends = (self._root.start, self._root.end)
        a, b = (round(min(max(point, ends[0]), ends[1]), _DIGITS) for point in (start, end))
        if a == b:
            return torch.zeros_like(self._whole)
        parts: list[torch.Tensor] = []
        self._collect(self._root, self._whole, (a, b), parts)
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total

    def _collect(
        self, node: _Node, value: torch.Tensor, wanted: tuple[float, float], parts: list[torch.Tensor]
    ) -> None:
        """Append the increments of the largest nodes that together cover `wanted`, from left to right."""
        a, b = wanted
        if a == node.start and b == node.end:
            parts.append(value)
            return
        middle = round(0.5 * (node.end + node.start), _DIGITS)
        left = self._left_half(node, middle, value)
        if a < middle:
            child = _Node(node.start, middle, 2 * node.place, node.depth + 1)
            self._collect(child, left, (a, min(b, middle)), parts)
        if b > middle:
            child = _Node(middle, node.end, 2 * node.place + 1, node.depth + 1)
            self._collect(child, value - left, (max(a, middle), b), parts)

    def _left_half(self, node: _Node, middle: float, value: torch.Tensor) -> torch.Tensor:
        # The order of products matters for the last bit.
        per_length = 1 / (node.end - node.start)
        left, right = middle - node.start, node.end - middle
        mean = left * value * per_length
        return mean + math.sqrt(left * right * per_length) * self._noise(node)

    def _noise(self, node: _Node) -> torch.Tensor:
        key = (node.place, node.depth)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        sequence = np.random.SeedSequence(entropy=self._entropy, spawn_key=key, pool_size=_POOL)
        drawn = self._draw(int(sequence.generate_state(4)[0]))
        self._kept[key] = drawn
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return drawn


def batched(trees: Sequence[BrownianTree]) -> BrownianNoise:
    """Return the noise of a batch, one tree a picture: (W(to) - W(from)) / sqrt(|to - from|)."""

    def noise(sigma_from: torch.Tensor, sigma_to: torch.Tensor) -> torch.Tensor:
        a, b = float(sigma_from), float(sigma_to)
        grown = torch.stack([tree.increment(min(a, b), max(a, b)) for tree in trees])
        if a == b:
            return grown
        width = (sigma_to - sigma_from).abs().sqrt()
        return (grown if a < b else -grown) / width

    return noise
