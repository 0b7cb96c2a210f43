"""Restart: Heun steps down, then back up to a higher sigma with fresh noise and down again.

Xu et al., "Restart sampling for improving generative processes" (2023), with the step budget of A1111: the repeated
part is taken out of the given number of steps.
"""

from itertools import pairwise

import torch

from server.engines.image.samplers.base import Model, SamplerRun, Step, Steps
from server.engines.image.samplers.heun import heun_step
from server.engines.image.schedules import karras

_LOW_SIGMA = 0.1  # the sigma nearest to this is where a restart begins
_HIGH_SIGMA = 2.0  # and the one nearest to this is where it goes back to
_FEWEST_STEPS = 20

Pair = tuple[torch.Tensor, torch.Tensor]


def restart(model: Model, x: torch.Tensor, run: SamplerRun) -> Steps:
    """Two model calls a step, one in the last; under 20 steps this is Heun without churn."""
    reached: torch.Tensor | None = None
    for i, (sigma, following) in enumerate(restart_plan(run.sigmas)):
        if reached is not None and reached < sigma:
            x = x + run.noise.next() * (sigma**2 - reached**2) ** 0.5
        denoised, x = heun_step(model, x, sigma, following)
        reached = following
        yield Step(i, x, denoised, float(sigma))
    return x


def restart_plan(sigmas: torch.Tensor) -> list[Pair]:
    """Return the steps (from, to) that are made for a schedule [n + 1]; a `from` above the last `to` is a restart."""
    steps = len(sigmas) - 1
    if steps < _FEWEST_STEPS:
        return _pairs(sigmas)
    length, times = (9, 1) if steps < 36 else (steps // 4, 2)
    base = karras(steps - length * times, float(sigmas[-2]), float(sigmas[0]))
    low = int((base - _LOW_SIGMA).abs().argmin())
    high = int((base - _HIGH_SIGMA).abs().argmin())
    if low == 0 or high >= low:
        return _pairs(base)
    again = karras(length + 1, float(base[low]), float(base[high]))[:-1]
    return _pairs(base[: low + 1]) + _pairs(again) * times + _pairs(base[low:])


def _pairs(sigmas: torch.Tensor) -> list[Pair]:
    return list(pairwise(sigmas))
