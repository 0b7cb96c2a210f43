"""Seeded streams of normal tensors, of each kind of `NoiseSource` that core knows.

`device` draws where the latent lives (CUDA's own generator there; on every other device torch's CPU generator), `cpu`
always with torch's CPU generator, `philox` in software, alike on every machine.
"""

from typing import Protocol

import torch

from server.core.errors import InvalidValue
from server.core.image import NoiseSource as NoiseKind
from server.engines.image.philox import Philox

_LOWEST_SEED = -(2**63)
_HIGHEST_SEED = 2**64 - 1


class NormalStream(Protocol):
    """Draws standard normals one tensor after the other."""

    def normal(self, shape: tuple[int, ...]) -> torch.Tensor:
        """Return the next draw, float32, on whatever device it was drawn."""
        ...


class _TorchStream:
    def __init__(self, seed: int, device: torch.device) -> None:
        self._device = device
        self._generator = torch.Generator(device).manual_seed(seed)

    def normal(self, shape: tuple[int, ...]) -> torch.Tensor:
        return torch.randn(shape, generator=self._generator, device=self._device, dtype=torch.float32)


class _PhiloxStream:
    def __init__(self, seed: int) -> None:
        self._philox = Philox(seed)

    def normal(self, shape: tuple[int, ...]) -> torch.Tensor:
        return torch.from_numpy(self._philox.normal(shape))


def stream(kind: NoiseKind, seed: int, device: torch.device) -> NormalStream:
    """Return a fresh stream for one seed.

    Raises:
        InvalidValue: The seed is outside -2^63 ... 2^64-1.
    """
    if not _LOWEST_SEED <= seed <= _HIGHEST_SEED:
        raise InvalidValue.of("seed", f"the seed {seed} is outside -2^63 ... 2^64-1")
    if kind == "philox":
        return _PhiloxStream(seed)
    if kind == "device" and device.type == "cuda":
        return _TorchStream(seed, device)
    return _TorchStream(seed, torch.device("cpu"))
