"""Muon: momentum whose matrices are made orthogonal before each step (Keller Jordan, 2024), for matrices alone."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic iteration, from Jordan's note
_ROUNDS = 5


class Muon:
    """Steps matrices [n, m]. Those of one shape are made orthogonal together."""

    def __init__(self, matrices: Iterable[nn.Parameter], *, momentum: float = 0.95, decay: float = 0.01) -> None:
        self._groups: dict[torch.Size, list[nn.Parameter]] = {}
        for matrix in matrices:
            self._groups.setdefault(matrix.shape, []).append(matrix)
        self._speeds = {shape: torch.zeros(len(group), *shape) for shape, group in self._groups.items()}
        self._momentum = momentum
        self._decay = decay

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Take one step and forget the gradients."""
        for shape, group in self._groups.items():
            gradients = torch.stack([_gradient(matrix) for matrix in group])
            speed = self._speeds[shape].mul_(self._momentum).add_(gradients)
            change = orthogonal(gradients + self._momentum * speed)
            scale = max(1.0, shape[0] / shape[1]) ** 0.5
            for matrix, part in zip(group, change, strict=True):
                matrix.mul_(1 - rate * self._decay).add_(part, alpha=-rate * scale)
                matrix.grad = None

    def state(self) -> list[Tensor]:
        """Return what must be kept to go on later."""
        return list(self._speeds.values())

    def restore(self, state: Iterable[Tensor]) -> None:
        """Go on from a state."""
        for speed, kept in zip(self._speeds.values(), state, strict=True):
            speed.copy_(kept)


def orthogonal(matrices: Tensor) -> Tensor:
    """Return matrices [k, n, m] with singular values near one, by Newton-Schulz iteration."""
    a, b, c = _COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    for _ in range(_ROUNDS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


def _gradient(matrix: nn.Parameter) -> Tensor:
    assert matrix.grad is not None
    return matrix.grad


def matrices_of(network: nn.Module) -> Iterator[nn.Parameter]:
    """Yield the matrices of the blocks; embeddings and norms are for another optimiser."""
    for name, parameter in network.named_parameters():
        if parameter.ndim == 2 and not name.startswith("token_embd"):
            yield parameter
