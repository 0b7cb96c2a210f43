"""How the noise is removed: a request's sampler fields and A1111's sampler options as one core `Denoise`."""

import msgspec

from compat.a1111 import wire
from compat.a1111.names import AUTOMATIC, Sampling
from compat.a1111.options import OptionValues
from server.core.image import Denoise

CHURN = {"s_churn": 0.0, "s_tmin": 0.0, "s_tmax": 0.0, "s_noise": 1.0}
"""The options that k-diffusion's samplers take, with the values that mean nothing."""


def denoise_of(request: wire.Txt2Img, options: OptionValues, sampling: Sampling, steps: int) -> Denoise:
    """Return how a pass of `steps` steps removes noise."""
    sampler = sampling.sampler
    ranged = has_range(sampling)
    churn = {name: churn_value(name, request, options) for name in CHURN}
    return Denoise(
        sampler=sampler.id,
        schedule=sampling.schedule_id,
        steps=steps,
        cfg_scale=request.cfg_scale if request.cfg_scale is not None else 7.0,
        eta=eta_of(request, options, sampling),
        churn=churn["s_churn"] if sampler.churns else 0.0,
        tmin=churn["s_tmin"] if sampler.churns else 0.0,
        tmax=churn["s_tmax"] if sampler.churns else 0.0,
        noise=churn["s_noise"] if sampler.churns or sampler.noises else 1.0,
        sigma_min=options.number("sigma_min") if ranged else 0.0,
        sigma_max=options.number("sigma_max") if ranged else 0.0,
        rho=options.number("rho") if ranged and sampling.schedule.default_rho != -1 else 0.0,
        discard_next_to_last=sampler.discards or options.flag("always_discard_next_to_last_sigma"),
        min_uncond=min_uncond(request, options),
        min_uncond_all=options.flag("s_min_uncond_all"),
        quantise_times=options.flag("enable_quantization"),
        extra_noise=options.number("img2img_extra_noise"),
        beta_alpha=options.number("beta_dist_alpha"),
        beta_beta=options.number("beta_dist_beta"),
        scaled_start=options.flag("sgm_noise_multiplier"),
        distilled_scale=distilled_of(request),
    )


def distilled_of(request: wire.Txt2Img) -> float | None:
    """Return the number that a distilled model is to follow, None where the request does not tell one."""
    return None if request.distilled_cfg_scale is msgspec.UNSET else request.distilled_cfg_scale


def has_range(sampling: Sampling) -> bool:
    """Tell whether the schedule is computed from a sigma range: not the model's own, not that of timestep samplers."""
    return not sampling.sampler.timesteps and sampling.schedule is not AUTOMATIC and sampling.schedule_id != "uniform"


def eta_of(request: wire.Txt2Img, options: OptionValues, sampling: Sampling) -> float | None:
    """Return eta, None for a sampler that takes none. A number in the request wins, 0 too."""
    if not sampling.sampler.takes_eta:
        return None
    if request.eta is not None:
        return request.eta
    return options.number("eta_ddim" if sampling.sampler.timesteps else "eta_ancestral")


def churn_value(name: str, request: wire.Txt2Img, options: OptionValues) -> float:
    """Return one of the churn figures: an option that differs from its default wins over the request."""
    option = options.number(name)
    asked: float | None = getattr(request, name)
    return asked if asked is not None and option == CHURN[name] else option


def min_uncond(request: wire.Txt2Img, options: OptionValues) -> float:
    """Return the sigma below which the negative prompt may be left out."""
    return request.s_min_uncond if request.s_min_uncond is not None else options.number("s_min_uncond")
