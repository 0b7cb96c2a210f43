"""DPM-Solver-2 in the form of Karras et al. 2022 (algorithm 2 with a midpoint in log sigma), plain and ancestral."""

import torch

from server.engines.image.samplers.base import Model, SamplerRun, Step, Steps, ancestral, churned, slope


def dpm2(model: Model, x: torch.Tensor, run: SamplerRun) -> Steps:
    """Two model calls a step, one in the last; takes churn."""
    for i, (sigma, following) in enumerate(zip(run.sigmas[:-1], run.sigmas[1:], strict=True)):
        x, raised = churned(x, sigma, run)
        denoised, x = _midpoint_step(model, x, raised, following)
        yield Step(i, x, denoised, float(raised))
    return x


def dpm2_ancestral(model: Model, x: torch.Tensor, run: SamplerRun) -> Steps:
    """Two model calls a step, one in the last; takes eta and the noise scale."""
    for i, (sigma, following) in enumerate(zip(run.sigmas[:-1], run.sigmas[1:], strict=True)):
        down, up = ancestral(sigma, following, run.ancestral_eta)
        denoised, x = _midpoint_step(model, x, sigma, down)
        if down > 0 and run.ancestral_eta != 0:
            x = x + run.noise.next() * run.noise_scale * up
        yield Step(i, x, denoised, float(sigma))
    return x


def _midpoint_step(
    model: Model, x: torch.Tensor, sigma: torch.Tensor, target: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (D at the step's start, the latent at `target`); a plain Euler step when that is 0."""
    denoised = model(x, sigma)
    start = slope(x, sigma, denoised)
    if target == 0:
        return denoised, x + start * (target - sigma)
    middle = sigma.log().lerp(target.log(), 0.5).exp()
    halfway = x + start * (middle - sigma)
    return denoised, x + slope(halfway, middle, model(halfway, middle)) * (target - sigma)
