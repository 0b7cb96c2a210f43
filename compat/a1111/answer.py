"""Pictures of a job to A1111's answer: infotexts, the `info` string, PNGs with their parameters inside. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from compat.a1111 import infotext, wire
from compat.a1111.checkpoints import short_hash
from compat.a1111.companions import refiner_entries
from compat.a1111.convert import Plan
from compat.a1111.extras import Hashes, extras_of
from server.core.image import ImageReady
from server.core.models import ModelCard

NOTHING: Mapping[str, Any] = {}

INPAINTING = 9
PIX2PIX = 8

DISTILLED = "Distilled CFG Scale"


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """What the answer needs beside the plan. `card` is the checkpoint as it is after the job.

    `timestamp` is A1111's: `YYYYMMDDHHMMSS` of the start. `padded` and `blank_mask` as in `extras_of`. `refined`: a
    refiner took over. `maps` are those of ControlNet units, which follow all pictures. `interrupted`: the job was ended
    early, so that the pictures of its last batch are not finished. `ignored` are fields of the request that had no
    meaning for the checkpoint.
    """

    pictures: Sequence[ImageReady]
    card: ModelCard
    timestamp: str
    version: str = ""
    hashes: Hashes = Hashes()
    padded: bool = False
    blank_mask: bool = False
    refined: bool = False
    maps: Sequence[bytes] = ()
    interrupted: bool = False
    ignored: tuple[str, ...] = ()

    @property
    def is_distilled(self) -> bool:
        """Tell whether the checkpoint was trained to follow a guidance number."""
        return self.card.image is not None and self.card.image.distilled

    @property
    def inputs(self) -> int:
        """Channels that the checkpoint's UNet takes: 9 for inpainting, 8 for InstructPix2Pix."""
        return self.card.image.in_channels if self.card.image is not None else 4


def infotexts(plan: Plan, finished: Finished, behind: Mapping[str, Any] = NOTHING) -> list[str]:
    """Return the infotext of each picture; `behind` are entries that follow all others but the version."""
    extras = _extras(plan, finished)
    if plan.work.hires is not None:
        extras["Hires prompt"] = _other(plan.texts.hires_prompt, plan.texts.prompt)
        extras["Hires negative prompt"] = _other(plan.texts.hires_negative, plan.texts.negative)
    return [
        infotext.write(
            plan.texts.prompt,
            plan.texts.negative,
            _fields(plan, finished, picture.index) | extras | dict(behind) | _tail(plan, finished),
        )
        for picture in finished.pictures
    ]


def info(plan: Plan, finished: Finished, texts: list[str]) -> dict[str, Any]:
    """Return what the `info` string holds, in A1111's order."""
    request, work = plan.request, plan.work
    count = work.batch_size * work.batches
    seeds, subseeds = all_seeds(plan)
    told = wire.Info(
        prompt=plan.texts.prompt,
        all_prompts=[plan.texts.prompt] * count,
        negative_prompt=plan.texts.negative,
        all_negative_prompts=[plan.texts.negative] * count,
        seed=seeds[0],
        all_seeds=seeds,
        subseed=subseeds[0],
        all_subseeds=subseeds,
        subseed_strength=0 if request.subseed_strength is None else request.subseed_strength,
        width=plan.size.width,
        height=plan.size.height,
        sampler_name=plan.sampling.sampler.name,
        cfg_scale=work.denoise.cfg_scale,
        steps=work.denoise.steps,
        batch_size=work.batch_size,
        restore_faces=False,
        face_restoration_model=None,
        sd_model_name=finished.card.stem,
        sd_model_hash=short_hash(finished.card),
        sd_vae_name=_vae_name(plan),
        sd_vae_hash=finished.hashes.vae,
        seed_resize_from_w=_given(request.seed_resize_from_w),
        seed_resize_from_h=_given(request.seed_resize_from_h),
        denoising_strength=_strength(plan),
        extra_generation_params=_extras(plan, finished),
        index_of_first_image=0,
        infotexts=texts,
        styles=list(request.styles or []),
        job_timestamp=finished.timestamp,
        clip_skip=work.text.clip_skip,
        is_using_inpainting_conditioning=finished.inputs == INPAINTING,
        version=finished.version or None,
    )
    plain: dict[str, Any] = msgspec.to_builtins(told)
    return plain


def all_seeds(plan: Plan) -> tuple[list[int], list[int]]:
    """Return seed and variation seed of every picture asked for: seeds count up unless variations are mixed in."""
    count = plan.work.batch_size * plan.work.batches
    stays = plan.work.seeds.variation_strength != 0
    seeds = [plan.seed if stays else plan.seed + index for index in range(count)]
    return seeds, [plan.subseed + index for index in range(count)]


def _fields(plan: Plan, finished: Finished, index: int) -> dict[str, Any]:
    request, work, options = plan.request, plan.work, plan.options
    seeds, subseeds = all_seeds(plan)
    varied = work.seeds.variation_strength != 0
    resized = work.seeds.resize_from
    source = options.text("randn_source")
    skip = work.text.clip_skip
    return {
        "Steps": work.denoise.steps,
        "Sampler": plan.sampling.sampler.name,
        "Schedule type": plan.sampling.schedule.label,
        **_guidance(plan, finished),
        "Image CFG scale": work.init.picture_scale if work.init is not None and finished.inputs == PIX2PIX else None,
        "Seed": seeds[index],
        "Size": f"{plan.size.width}x{plan.size.height}",
        "Model hash": short_hash(finished.card) if options.flag("add_model_hash_to_info") else None,
        "Model": finished.card.stem if options.flag("add_model_name_to_info") else None,
        "VAE hash": finished.hashes.vae if options.flag("add_vae_hash_to_info") else None,
        "VAE": _vae_name(plan) if options.flag("add_vae_name_to_info") else None,
        "Variation seed": subseeds[index] if varied else None,
        "Variation seed strength": request.subseed_strength if varied else None,
        "Seed resize from": f"{resized.width}x{resized.height}" if resized else None,
        "Denoising strength": _strength(plan) if work.hires is not None or work.init is not None else None,
        "Conditional mask weight": _mask_weight(plan, finished),
        "Clip skip": skip if skip > 1 else None,
        "ENSD": _seed_delta(plan),
        "Init image hash": None if plan.given is None else plan.given.digest,
        "RNG": source if source != "GPU" else None,
        "Tiling": True if work.tiling else None,
    }


def _guidance(plan: Plan, finished: Finished) -> dict[str, Any]:
    """Return the guidance as it acted: a model that follows a number is told it as Forge writes it."""
    denoise = plan.work.denoise
    if not finished.is_distilled:
        return {"CFG scale": denoise.cfg_scale}
    if denoise.distilled_scale is None:
        return {"CFG scale": 1.0, DISTILLED: denoise.cfg_scale}
    return {"CFG scale": denoise.cfg_scale, DISTILLED: denoise.distilled_scale}


def _extras(plan: Plan, finished: Finished) -> dict[str, Any]:
    entries = extras_of(plan, finished.hashes, padded=finished.padded, blank_mask=finished.blank_mask)
    entries |= refiner_entries(plan.request, plan.options, plan.others.refiner, took_over=finished.refined)
    return dict(plan.more) | entries


def _vae_name(plan: Plan) -> str | None:
    return None if plan.vae is None else plan.vae.name.replace("\\", "/").rsplit("/", 1)[-1]


def _mask_weight(plan: Plan, finished: Finished) -> float | None:
    return plan.options.number("inpainting_mask_weight") if finished.inputs == INPAINTING else None


def _tail(plan: Plan, finished: Finished) -> dict[str, Any]:
    return {"Version": finished.version or None if plan.options.flag("add_version_to_infotext") else None}


def _seed_delta(plan: Plan) -> int | None:
    delta = plan.work.seeds.later_delta
    eta = plan.work.denoise.eta
    return delta if delta and plan.sampling.sampler.uses_ensd and eta != 0 else None


def _strength(plan: Plan) -> float | None:
    asked, hires = plan.request.denoising_strength, plan.work.hires
    return hires.strength if asked is None and hires is not None else asked


def _other(text: str, base: str) -> str | None:
    return text if text != base else None


def _given(value: int | None) -> int:
    return -1 if value is None else value
