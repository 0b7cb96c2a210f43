"""DDIM: Song et al., "Denoising diffusion implicit models" (2021), eq. 12; and its CFG++ variant.

CFG++ (Chung et al., 2024) steps back to noise with the unconditional prediction. Its guidance scale is on another
range: `SamplerInfo.scale_factor` brings the usual one there.
"""

import torch

from server.engines.image.samplers.base import Model, SamplerRun, Step, Steps
from server.engines.image.samplers.by_time import signals


def ddim(model: Model, x: torch.Tensor, run: SamplerRun) -> Steps:
    """One model call a step; takes eta, by default 0."""
    return _ddim(model, x, run, is_plus=False)


def ddim_cfgpp(model: Model, x: torch.Tensor, run: SamplerRun) -> Steps:
    """One model call a step; takes eta, by default 0."""
    return _ddim(model, x, run, is_plus=True)


def _ddim(model: Model, x: torch.Tensor, run: SamplerRun, *, is_plus: bool) -> Steps:
    eta = 0.0 if run.eta is None else run.eta
    for i, signal in enumerate(signals(run)):
        eps = model.eps(x, float(signal.time))
        spread = torch.tensor(eta * signal.spread)
        picture = signal.x0(x, eps.guided)
        direction = eps.unconditional if is_plus else eps.guided
        x = signal.lower.sqrt() * picture + (1.0 - signal.lower - spread**2).clamp(min=0).sqrt() * direction
        if eta != 0:
            x = x + spread * run.noise.next()
        yield Step(i, x, picture, signal.sigma)
    return x
