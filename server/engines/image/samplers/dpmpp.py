"""DPM-Solver++: solvers for the data-prediction form of the flow, in t = -ln sigma.

Lu et al., "DPM-Solver++: fast solver for guided sampling of diffusion probabilistic models" (2022): the second-order
multistep solver (2M), and the second-order singlestep solver with ancestral noise (2S a), as k-diffusion has them.
"""

import torch

from server.engines.image.samplers.base import (
    Model,
    SamplerRun,
    Step,
    Steps,
    ancestral,
    from_neg_log,
    neg_log,
    slope,
)


def dpmpp_2m(model: Model, x: torch.Tensor, run: SamplerRun) -> Steps:
    """One model call a step; the step before gives the second order."""
    before: tuple[torch.Tensor, torch.Tensor] | None = None
    for i, (sigma, following) in enumerate(zip(run.sigmas[:-1], run.sigmas[1:], strict=True)):
        denoised = model(x, sigma)
        t, end = neg_log(sigma), neg_log(following)
        h = end - t
        target = denoised
        if before is not None and following > 0:
            old, old_t = before
            ratio = (t - old_t) / h
            target = (1 + 1 / (2 * ratio)) * denoised - (1 / (2 * ratio)) * old
        x = from_neg_log(end) / from_neg_log(t) * x - (-h).expm1() * target
        before = (denoised, t)
        yield Step(i, x, denoised, float(sigma))
    return x


def dpmpp_2s_ancestral(model: Model, x: torch.Tensor, run: SamplerRun) -> Steps:
    """Two model calls a step, one in the last; takes eta and the noise scale."""
    for i, (sigma, following) in enumerate(zip(run.sigmas[:-1], run.sigmas[1:], strict=True)):
        denoised = model(x, sigma)
        down, up = ancestral(sigma, following, run.ancestral_eta)
        if down == 0:
            x = x + slope(x, sigma, denoised) * (down - sigma)
        else:
            t, end = neg_log(sigma), neg_log(down)
            h = end - t
            middle = from_neg_log(t + 0.5 * h)
            halfway = middle / from_neg_log(t) * x - (-h * 0.5).expm1() * denoised
            x = from_neg_log(end) / from_neg_log(t) * x - (-h).expm1() * model(halfway, middle)
        if following > 0 and run.ancestral_eta != 0:
            x = x + run.noise.next() * run.noise_scale * up
        yield Step(i, x, denoised, float(sigma))
    return x
