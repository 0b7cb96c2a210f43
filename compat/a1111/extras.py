"""The entries of `extra_generation_params`, in the order in which A1111 comes to add them."""

from typing import Any

import msgspec

from compat.a1111.companions import short_title
from compat.a1111.convert import Plan
from compat.a1111.denoise import CHURN, churn_value, eta_of, has_range, min_uncond
from compat.a1111.given import entries_before
from compat.a1111.names import AUTOMATIC, Sampling
from compat.a1111.networks import Mentioned

CHURN_KEYS = {"s_churn": "Sigma churn", "s_tmin": "Sigma tmin", "s_tmax": "Sigma tmax", "s_noise": "Sigma noise"}


class Hashes(msgspec.Struct, frozen=True, kw_only=True):
    """12 hex digits for the networks a picture used, by name as written; 10 for the VAE."""

    loras: tuple[tuple[str, str], ...] = ()
    embeddings: tuple[tuple[str, str], ...] = ()
    vae: str | None = None


def extras_of(plan: Plan, hashes: Hashes, *, padded: bool, blank_mask: bool = False) -> dict[str, Any]:
    """Return the entries. `padded`: prompts of different length were filled up to the same one.

    `blank_mask`: the mask was left out, for it masked nothing.

    Hires prompts stand there as null, as in A1111, where they are computed per picture.
    """
    entries: dict[str, Any] = dict(plan.control)
    if plan.work.hires is not None:
        entries |= _hires_entries(plan)
    if plan.given is not None:
        entries |= entries_before(plan.given, blank_mask=blank_mask)
    if hashes.loras:
        entries["Lora hashes"] = _listed(dict(hashes.loras))
    if hashes.embeddings:
        entries["TI hashes"] = _listed(dict(hashes.embeddings))
    if plan.options.text("emphasis") != "Original" and _has_brackets(plan):
        entries["Emphasis"] = plan.options.text("emphasis")
    if plan.given is not None and plan.given.init.noise_multiplier != 1.0:
        entries["Noise multiplier"] = plan.given.init.noise_multiplier
    entries |= _schedule_entries(plan)
    if plan.given is None and plan.work.denoise.scaled_start and not plan.sampling.sampler.timesteps:
        entries["SGM noise multiplier"] = True
    if plan.work.denoise.extra_noise > 0 and (plan.given is not None or plan.work.hires is not None):
        entries["Extra noise"] = plan.work.denoise.extra_noise
    entries |= _sampler_entries(plan)
    if padded:
        entries["Pad conds"] = True
    return entries


def clean(mentioned: Mentioned) -> str:
    """Return a network's name as hash lists write it."""
    return mentioned.name.replace(":", "").replace(",", "")


def _listed(hashes: dict[str, str]) -> str:
    return ", ".join(f"{name}: {digest}" for name, digest in hashes.items())


def _hires_entries(plan: Plan) -> dict[str, Any]:
    request = plan.request
    strength = request.denoising_strength
    hires = plan.work.hires
    entries: dict[str, Any] = {
        "Denoising strength": strength if strength is not None or hires is None else hires.strength
    }
    if plan.others.hires is not None:
        entries["Hires checkpoint"] = short_title(plan.others.hires)
    if plan.hires is not None and plan.hires.sampler is not plan.sampling.sampler:
        entries["Hires sampler"] = plan.hires.sampler.name
    entries |= {"Hires prompt": None, "Hires negative prompt": None, "Hires schedule type": _hires_schedule(plan)}
    x, y = request.hr_resize_x or 0, request.hr_resize_y or 0
    if x or y:
        entries["Hires resize"] = f"{x}x{y}"
    else:
        entries["Hires upscale"] = request.hr_scale if request.hr_scale is not None else 2.0
    if request.hr_second_pass_steps:
        entries["Hires steps"] = request.hr_second_pass_steps
    if request.hr_upscaler is not None:
        entries["Hires upscaler"] = request.hr_upscaler
    return entries


def _hires_schedule(plan: Plan) -> str | None:
    if plan.hires is None or not _computed(plan.hires):
        return None
    first = plan.sampling.schedule.label if _computed(plan.sampling) else None
    return None if plan.hires.schedule.label == first else plan.hires.schedule.label


def _computed(sampling: Sampling) -> bool:
    """Tell whether A1111 computes the sigmas by a schedule of its list, which alone leaves entries."""
    return not sampling.sampler.timesteps and sampling.schedule is not AUTOMATIC


def _has_brackets(plan: Plan) -> bool:
    texts = plan.texts
    return any(mark in text for text in (texts.prompt, texts.negative) for mark in "([")


def _schedule_entries(plan: Plan) -> dict[str, Any]:
    sampling, options = plan.sampling, plan.options
    entries: dict[str, Any] = {}
    if sampling.sampler.timesteps:
        return entries
    if options.flag("always_discard_next_to_last_sigma") and not sampling.sampler.discards:
        entries["Discard penultimate sigma"] = True
    if not _computed(sampling):
        return entries
    schedule = sampling.schedule
    entries["Schedule type"] = schedule.label
    for key, name in (("Schedule min sigma", "sigma_min"), ("Schedule max sigma", "sigma_max")):
        if options.number(name) != 0:
            entries[key] = options.number(name)
    if has_range(sampling) and schedule.default_rho != -1 and options.number("rho") not in (0, schedule.default_rho):
        entries["Schedule rho"] = options.number("rho")
    if schedule.name == "beta":
        entries["Beta schedule alpha"] = options.number("beta_dist_alpha")
        entries["Beta schedule beta"] = options.number("beta_dist_beta")
    return entries


def _sampler_entries(plan: Plan) -> dict[str, Any]:
    request, options, sampler = plan.request, plan.options, plan.sampling.sampler
    entries: dict[str, Any] = {}
    eta = eta_of(request, options, plan.sampling)
    if eta is not None and eta != (0.0 if sampler.timesteps else 1.0):
        entries["Eta DDIM" if sampler.timesteps else "Eta"] = eta
    names = tuple(CHURN) if sampler.churns else ("s_noise",) if sampler.noises else ()
    for name in names:
        if options.number(name) != CHURN[name]:  # values of the request act and are not told
            entries[CHURN_KEYS[name]] = churn_value(name, request, options)
    threshold = min_uncond(request, options)
    if threshold > 0 and (request.steps or 0) * sampler.calls > 1:
        entries["NGMS"] = threshold
        if options.flag("s_min_uncond_all"):
            entries["NGMS all steps"] = True
    return entries
