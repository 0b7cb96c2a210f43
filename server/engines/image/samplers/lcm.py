"""Multistep consistency sampling: jump to the picture, add noise of the next sigma, jump again.

Luo et al., "Latent consistency models" (2023). The model must be wrapped as a consistency model
(`SamplerInfo.consistency`).
"""

import torch

from server.engines.image.samplers.base import Model, SamplerRun, Step, Steps


def lcm(model: Model, x: torch.Tensor, run: SamplerRun) -> Steps:
    """One model call a step; noise always."""
    for i, (sigma, following) in enumerate(zip(run.sigmas[:-1], run.sigmas[1:], strict=True)):
        denoised = model(x, sigma)
        x = denoised
        if following > 0:
            x = x + following * run.noise.next()
        yield Step(i, x, denoised, float(sigma))
    return x
