"""DPM-Solver++ for the reverse SDE, driven by Brownian noise that does not depend on the number of steps.

Lu et al., "DPM-Solver++" (2022), its SDE form: singlestep second order (SDE), multistep second order in midpoint and
Heun form (2M SDE), multistep third order (3M SDE, Crowson's k-diffusion).
"""

import torch

from server.engines.image.brownian import BrownianNoise
from server.engines.image.samplers.base import Model, SamplerRun, Step, Steps, ancestral, from_neg_log, neg_log, slope

_MIDDLE = 0.5


def dpmpp_sde(model: Model, x: torch.Tensor, run: SamplerRun) -> Steps:
    """Two model calls a step, one in the last; takes eta and the noise scale."""
    noise = _brownian(run)
    for i, (sigma, following) in enumerate(zip(run.sigmas[:-1], run.sigmas[1:], strict=True)):
        denoised = model(x, sigma)
        if following == 0:
            x = x + slope(x, sigma, denoised) * (following - sigma)
        else:
            t, end = neg_log(sigma), neg_log(following)
            middle = t + (end - t) * _MIDDLE
            halfway = _noisy_step(x, (t, middle), denoised, run, noise)
            x = _noisy_step(x, (t, end), model(halfway, from_neg_log(middle)), run, noise)
        yield Step(i, x, denoised, float(sigma))
    return x


def dpmpp_2m_sde(model: Model, x: torch.Tensor, run: SamplerRun) -> Steps:
    """One model call a step, midpoint form; takes eta and the noise scale."""
    return _multistep_sde(model, x, run, is_heun=False)


def dpmpp_2m_sde_heun(model: Model, x: torch.Tensor, run: SamplerRun) -> Steps:
    """One model call a step, Heun form; takes eta and the noise scale."""
    return _multistep_sde(model, x, run, is_heun=True)


def dpmpp_3m_sde(model: Model, x: torch.Tensor, run: SamplerRun) -> Steps:
    """One model call a step; the two steps before give the third order; takes eta and the noise scale."""
    noise, eta = _brownian(run), run.ancestral_eta
    history: list[tuple[torch.Tensor, torch.Tensor]] = []  # (D, h) of the steps before, newest first
    for i, (sigma, following) in enumerate(zip(run.sigmas[:-1], run.sigmas[1:], strict=True)):
        denoised = model(x, sigma)
        if following == 0:
            x = denoised
        else:
            h = neg_log(following) - neg_log(sigma)
            a = h * (eta + 1)
            x = torch.exp(-a) * x + (-a).expm1().neg() * denoised
            x = _bent(x, denoised, (h, a), history)
            if noise is not None:
                rise = (-2 * h * eta).expm1().neg().sqrt()
                x = x + noise(sigma, following) * following * rise * run.noise_scale
            history = [(denoised, h), *history[:1]]
        yield Step(i, x, denoised, float(sigma))
    return x


def _bent(
    x: torch.Tensor,
    denoised: torch.Tensor,
    lengths: tuple[torch.Tensor, torch.Tensor],
    history: list[tuple[torch.Tensor, torch.Tensor]],
) -> torch.Tensor:
    """Return x with what the slope and the curvature of D over the steps before add; lengths are h and h (1 + eta)."""
    if not history:
        return x
    h, a = lengths
    phi_2 = a.neg().expm1() / a + 1
    newest, h_1 = history[0]
    r_0 = h_1 / h
    d_0 = (denoised - newest) / r_0
    if len(history) == 1:
        return x + phi_2 * d_0
    older, h_2 = history[1]
    r_1 = h_2 / h
    d_1 = (newest - older) / r_1
    first = d_0 + (d_0 - d_1) * r_0 / (r_0 + r_1)
    second = (d_0 - d_1) / (r_0 + r_1)
    return x + phi_2 * first - (phi_2 / a - 0.5) * second


def _multistep_sde(model: Model, x: torch.Tensor, run: SamplerRun, *, is_heun: bool) -> Steps:
    noise, eta = _brownian(run), run.ancestral_eta
    before: tuple[torch.Tensor, torch.Tensor] | None = None
    for i, (sigma, following) in enumerate(zip(run.sigmas[:-1], run.sigmas[1:], strict=True)):
        denoised = model(x, sigma)
        if following == 0:
            x = denoised
        else:
            h = neg_log(following) - neg_log(sigma)
            eta_h = eta * h
            a = -h - eta_h
            x = following / sigma * (-eta_h).exp() * x + a.expm1().neg() * denoised
            if before is not None:
                old, old_h = before
                weight = a.expm1().neg() / a + 1 if is_heun else 0.5 * a.expm1().neg()
                x = x + weight * (1 / (old_h / h)) * (denoised - old)
            if noise is not None:
                rise = (-2 * eta_h).expm1().neg().sqrt()
                x = x + noise(sigma, following) * following * rise * run.noise_scale
            before = (denoised, h)
        yield Step(i, x, denoised, float(sigma))
    return x


def _noisy_step(
    x: torch.Tensor,
    times: tuple[torch.Tensor, torch.Tensor],
    denoised: torch.Tensor,
    run: SamplerRun,
    noise: BrownianNoise | None,
) -> torch.Tensor:
    """Return the latent stepped between two times t = -ln sigma towards `denoised`, with ancestral noise."""
    t, end = times
    sigma, following = from_neg_log(t), from_neg_log(end)
    down, up = ancestral(sigma, following, run.ancestral_eta)
    down_t = neg_log(down)
    x = from_neg_log(down_t) / sigma * x - (t - down_t).expm1() * denoised
    if noise is None:
        return x
    return x + noise(sigma, following) * run.noise_scale * up


def _brownian(run: SamplerRun) -> BrownianNoise | None:
    """Return the run's noise, None where none is wanted (eta 0) or no step could use it."""
    if run.ancestral_eta == 0 or len(run.sigmas) < 2:
        return None
    return run.brownian()
