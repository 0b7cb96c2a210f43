"""Euler steps along the probability flow, plain and ancestral.

Karras et al., "Elucidating the design space of diffusion-based generative models" (2022), algorithm 2 without its
second-order correction; ancestral noise after Song et al., "Score-based generative modeling through SDEs" (2021).
"""

import torch

from server.engines.image.samplers.base import Model, SamplerRun, Step, Steps, ancestral, churned, slope


def euler(model: Model, x: torch.Tensor, run: SamplerRun) -> Steps:
    """One model call a step; takes churn."""
    for i, (sigma, following) in enumerate(zip(run.sigmas[:-1], run.sigmas[1:], strict=True)):
        x, raised = churned(x, sigma, run)
        denoised = model(x, raised)
        x = x + slope(x, raised, denoised) * (following - raised)
        yield Step(i, x, denoised, float(raised))
    return x


def euler_ancestral(model: Model, x: torch.Tensor, run: SamplerRun) -> Steps:
    """One model call a step; takes eta."""
    for i, (sigma, following) in enumerate(zip(run.sigmas[:-1], run.sigmas[1:], strict=True)):
        denoised = model(x, sigma)
        down, up = ancestral(sigma, following, run.ancestral_eta)
        x = x + slope(x, sigma, denoised) * (down - sigma)
        if following > 0 and run.ancestral_eta != 0:
            x = x + run.noise.next() * up
        yield Step(i, x, denoised, float(sigma))
    return x
