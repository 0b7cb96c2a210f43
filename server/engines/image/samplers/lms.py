"""Linear multistep: the slopes of up to four steps, extrapolated by a polynomial in sigma and integrated exactly.

Adams-Bashforth with uneven steps, as Crowson's k-diffusion introduced it to diffusion.
"""

import numpy as np
import torch

from server.engines.image.samplers.base import Model, SamplerRun, Step, Steps, slope

_ORDER = 4


def lms(model: Model, x: torch.Tensor, run: SamplerRun) -> Steps:
    """One model call a step; no noise."""
    points = [float(sigma) for sigma in run.sigmas]
    slopes: list[torch.Tensor] = []  # newest first
    for i, sigma in enumerate(run.sigmas[:-1]):
        denoised = model(x, sigma)
        slopes = [slope(x, sigma, denoised), *slopes[: _ORDER - 1]]
        known = points[i - len(slopes) + 1 : i + 1][::-1]
        weights = multistep_weights(known, points[i], points[i + 1])
        x = x + sum((weight * d for weight, d in zip(weights, slopes, strict=True)), start=torch.zeros(()))
        yield Step(i, x, denoised, points[i])
    return x


def multistep_weights(known: list[float], start: float, end: float) -> list[float]:
    """Return, for each known point, the integral from start to end of its Lagrange basis polynomial.

    Two Gauss points would be exact for four known points; A1111 integrates to a relative tolerance of 1e-4, and comes
    out the same to float32 precision, as polynomials do.
    """
    nodes, shares = np.polynomial.legendre.leggauss(_ORDER)
    at = start + (nodes + 1) / 2 * (end - start)
    weights = []
    for j, here in enumerate(known):
        others = [(at - other) / (here - other) for k, other in enumerate(known) if k != j]
        basis = np.prod(others, axis=0) if others else np.ones_like(at)
        weights.append(float((basis * shares).sum() / 2 * (end - start)))
    return weights
