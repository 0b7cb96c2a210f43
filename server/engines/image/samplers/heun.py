"""Heun's method: an Euler step to the next sigma, then the mean of the slopes at both ends.

Karras et al., "Elucidating the design space of diffusion-based generative models" (2022), algorithm 2.
"""

import torch

from server.engines.image.samplers.base import Model, SamplerRun, Step, Steps, churned, slope


def heun(model: Model, x: torch.Tensor, run: SamplerRun) -> Steps:
    """Two model calls a step, one in the last; takes churn."""
    for i, (sigma, following) in enumerate(zip(run.sigmas[:-1], run.sigmas[1:], strict=True)):
        x, raised = churned(x, sigma, run)
        denoised, x = heun_step(model, x, raised, following)
        yield Step(i, x, denoised, float(raised))
    return x


def heun_step(
    model: Model, x: torch.Tensor, sigma: torch.Tensor, following: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (D at the step's start, the latent at `following`)."""
    denoised = model(x, sigma)
    start = slope(x, sigma, denoised)
    width = following - sigma
    guess = x + start * width
    if following == 0:
        return denoised, guess
    end = slope(guess, following, model(guess, following))
    return denoised, x + (start + end) / 2 * width
