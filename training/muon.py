"""Muon: momentum whose matrices are made orthogonal before each step (Keller Jordan, 2024).

For the matrices inside a network alone, convolutions among them, which count as matrices [channels out, all else].
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic iteration, from Jordan's note
_ROUNDS = 5

LONG = 3
"""How many times longer than high a matrix is when iterating on its square of products is cheaper."""


class Muon:
    """Steps matrices [n, m, ...]. Those of one shape are made orthogonal together."""

    def __init__(self, matrices: Iterable[nn.Parameter], *, momentum: float = 0.95, decay: float = 0.01) -> None:
        self._groups: dict[torch.Size, list[nn.Parameter]] = {}
        for matrix in matrices:
            self._groups.setdefault(matrix.shape, []).append(matrix)
        self._speeds = {
            shape: torch.zeros(len(group), shape[0], shape[1:].numel()) for shape, group in self._groups.items()
        }
        self._momentum = momentum
        self._decay = decay

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Take one step and forget the gradients."""
        for shape, group in self._groups.items():
            gradients = torch.stack([_gradient(matrix) for matrix in group])
            speed = self._speeds[shape].mul_(self._momentum).add_(gradients)
            change = orthogonal(gradients + self._momentum * speed)
            scale = max(1.0, shape[0] / shape[1:].numel()) ** 0.5
            for matrix, part in zip(group, change, strict=True):
                matrix.mul_(1 - rate * self._decay).add_(part.view(shape), alpha=-rate * scale)
                matrix.grad = None

    def state(self) -> list[Tensor]:
        """Return what must be kept to go on later."""
        return list(self._speeds.values())

    def restore(self, state: Iterable[Tensor]) -> None:
        """Go on from a state."""
        for speed, kept in zip(self._speeds.values(), state, strict=True):
            speed.copy_(kept)


class Steps:
    """Muon for some matrices of a network, AdamW for all else of it."""

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        matrices: Iterable[nn.Parameter],
        *,
        betas: tuple[float, float] = (0.9, 0.99),
        decay: float = 0.0,
    ) -> None:
        chosen = list(matrices)
        stepped = {id(matrix) for matrix in chosen}
        others = [parameter for parameter in parameters if id(parameter) not in stepped]
        self._muon = Muon(chosen)
        self._adam = torch.optim.AdamW(others, lr=1.0, betas=betas, weight_decay=decay)

    def step(self, matrix_rate: float, rate: float) -> None:
        """Take one step and forget the gradients."""
        self._muon.step(matrix_rate)
        for group in self._adam.param_groups:
            group["lr"] = rate
        self._adam.step()
        self._adam.zero_grad()

    def state(self) -> dict[str, Any]:
        """Return what must be kept to go on later."""
        return {"muon": self._muon.state(), "adam": self._adam.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self._muon.restore(state["muon"])
        self._adam.load_state_dict(state["adam"])


def orthogonal(matrices: Tensor) -> Tensor:
    """Return matrices [k, n, m] with singular values near one, by Newton-Schulz iteration."""
    a, b, c = _COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    if x.shape[2] >= LONG * x.shape[1]:
        x = _polynomial(x @ x.mT) @ x
        return x.mT if tall else x
    for _ in range(_ROUNDS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


def _polynomial(gram: Tensor) -> Tensor:
    """Return what the same rounds multiply matrices x by, from x @ x.T alone."""
    a, b, c = _COEFFICIENTS
    unit = torch.eye(gram.shape[1])
    product = unit
    for _ in range(_ROUNDS):
        factor = a * unit + b * gram + c * gram @ gram
        product = factor @ product
        gram = factor @ gram @ factor
    return product


def _gradient(matrix: nn.Parameter) -> Tensor:
    assert matrix.grad is not None
    return matrix.grad.flatten(1)
