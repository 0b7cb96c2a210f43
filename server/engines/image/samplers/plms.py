"""PLMS: Liu et al., "Pseudo numerical methods for diffusion models on manifolds" (2022).

DDIM steps whose noise is extrapolated from up to three earlier ones (Adams-Bashforth); the first step asks twice.
"""

import torch

from server.engines.image.samplers.base import Model, SamplerRun, Step, Steps
from server.engines.image.samplers.by_time import Signal, signals


def plms(model: Model, x: torch.Tensor, run: SamplerRun) -> Steps:
    """One model call a step, two in the first; no noise."""
    earlier: list[torch.Tensor] = []  # newest first
    for i, signal in enumerate(signals(run)):
        eps = model.eps(x, float(signal.time)).guided
        if earlier:
            mixed = _extrapolated(eps, earlier)
        else:
            guess, _ = _lowered(x, eps, signal)
            mixed = (eps + model.eps(guess, float(run.timesteps[-2])).guided) / 2
        earlier = [eps, *earlier[:2]]
        x, picture = _lowered(x, mixed, signal)
        yield Step(i, x, picture, signal.sigma)
    return x


def _extrapolated(eps: torch.Tensor, earlier: list[torch.Tensor]) -> torch.Tensor:
    if len(earlier) == 1:
        return (3 * eps - earlier[0]) / 2
    if len(earlier) == 2:
        return (23 * eps - 16 * earlier[0] + 5 * earlier[1]) / 12
    return (55 * eps - 59 * earlier[0] + 37 * earlier[1] - 9 * earlier[2]) / 24


def _lowered(x: torch.Tensor, eps: torch.Tensor, signal: Signal) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (the latent one time lower, the picture behind it)."""
    picture = signal.x0(x, eps)
    return signal.lower.sqrt() * picture + (1.0 - signal.lower).sqrt() * eps, picture
