"""What a pipeline is called with for a request, and which wishes of the request have no meaning for it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from server.core.errors import Unsupported
from server.core.image import Denoise, ImageRequest, TextEncoding
from server.engines.image.pipelines.index import parameters_of
from server.engines.image.pipelines.words import lost_of, text_of

TURNED_OFF = (
    *("use_resolution_binning", "clean_caption", "enable_prompt_rewrite", "use_pe", "prompt_upsampling"),
    "complex_human_instruction",
)
"""What pipelines do to a request's size and words unless told not to."""

COUNTED_FROM_ZERO = frozenset({"ZImagePipeline", "Krea2Pipeline"})
"""Pipelines whose guidance is what is added to the prompt's own answer: 0 is what others call 1."""

SAMPLERS = frozenset({"euler"})
SCHEDULES = frozenset({"uniform", "automatic", "normal", "simple", "sgm_uniform"})
"""Words for what these models bring themselves: Euler steps in a schedule of their own."""


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """How strongly a prompt guides: `arguments` of the call, and whether the negative prompt has a say."""

    arguments: Mapping[str, float]
    has_negative: bool


def arguments_of(pipeline: Any, request: ImageRequest, pictures: int) -> dict[str, Any]:
    """Return what a pipeline is called with for a batch, but for size, noise and steps."""
    takes = parameters_of(type(pipeline))
    guidance = guidance_of(pipeline, request.denoise)
    arguments: dict[str, Any] = {"prompt": text_of(request.prompt), "num_images_per_prompt": pictures}
    if "num_images_per_prompt" not in takes:
        raise Unsupported.of("model", "this pipeline makes one picture of a prompt in a way that is not served")
    if "negative_prompt" in takes:
        # A space, where nothing is said: some pipelines take an empty text for no negative prompt at all.
        arguments["negative_prompt"] = (text_of(request.negative) or " ") if guidance.has_negative else None
    arguments |= guidance.arguments
    arguments |= {name: _off(name) for name in TURNED_OFF if name in takes}
    return arguments


def guidance_of(pipeline: Any, denoise: Denoise) -> Guidance:
    """Return what becomes of the guidance scale.

    | the model | `cfg_scale` | `distilled_scale` |
    |---|---|---|
    | was trained to follow a number | that number, when no other is given; else as below | the number |
    | is guided by a negative prompt | the scale, 1 = without the negative prompt | nothing |
    """
    takes = parameters_of(type(pipeline))
    scale = denoise.cfg_scale
    if is_distilled(pipeline):
        number = scale if denoise.distilled_scale is None else denoise.distilled_scale
        name = "distilled_guidance_scale" if "distilled_guidance_scale" in takes else "guidance_scale"
        if "true_cfg_scale" not in takes:
            return Guidance(arguments={name: number}, has_negative=False)
        true = 1.0 if denoise.distilled_scale is None else scale
        return Guidance(arguments={name: number, "true_cfg_scale": true}, has_negative=true > 1.0)
    if "true_cfg_scale" in takes:
        return Guidance(arguments={"true_cfg_scale": scale}, has_negative=scale > 1.0)
    if "guidance_scale" not in takes:
        return Guidance(arguments={}, has_negative=False)
    if type(pipeline).__name__ in COUNTED_FROM_ZERO:
        return Guidance(arguments={"guidance_scale": max(scale - 1.0, 0.0)}, has_negative=scale > 1.0)
    return Guidance(arguments={"guidance_scale": scale}, has_negative=scale > 1.0)


def is_distilled(pipeline: Any) -> bool:
    """Tell whether the model was trained to follow a guidance number that it is told."""
    if type(pipeline).__name__ == "Flux2Pipeline":
        return True
    config = getattr(getattr(pipeline, "transformer", None), "config", {})
    return bool(config.get("guidance_embeds"))


def ignored_of(pipeline: Any, request: ImageRequest, source: str) -> tuple[str, ...]:
    """Return the fields of a request that say more than this pipeline can do, and would only fine-tune the picture.

    `source` is the model's own file, which a request names when it wants no other VAE.
    """
    return tuple(_ignored(pipeline, request, source))


def check_served(request: ImageRequest) -> None:
    """Raise Unsupported for what would change the picture and is not there for these families."""
    lacking = {
        "control": bool(request.control),
        "refiner": request.refiner is not None,
        "tiling": request.tiling,
        "soft_inpainting": _is_soft(request),
        "resize_mode": request.init is not None and request.init.resize == "latent",
    }
    for name, is_asked in lacking.items():
        if is_asked:
            raise Unsupported.of(name, f"{name} is not offered for this family of models")


def _ignored(pipeline: Any, request: ImageRequest, source: str) -> Iterator[str]:
    asked, plain = request.denoise, Denoise()
    if asked.sampler not in SAMPLERS:
        yield "sampler"
    if asked.schedule not in SCHEDULES:
        yield "schedule"
    for name in ("churn", "sigma_min", "sigma_max", "rho", "min_uncond"):
        if getattr(asked, name) != getattr(plain, name):
            yield name
    if request.vae not in (None, source):
        yield "vae"
    if request.hypernetworks:
        yield "hypernetworks"
    if request.embeddings:
        yield "embeddings"
    if request.text.clip_skip != TextEncoding().clip_skip:
        yield "clip_skip"
    takes = parameters_of(type(pipeline))
    has_negative = "negative_prompt" in takes and guidance_of(pipeline, asked).has_negative
    if text_of(request.negative) and not has_negative:
        yield "negative_prompt"
    yield from dict.fromkeys((*lost_of(request.prompt), *(lost_of(request.negative) if has_negative else ())))


def _off(name: str) -> Any:
    return None if name == "complex_human_instruction" else False


def _is_soft(request: ImageRequest) -> bool:
    inpaint = None if request.init is None else request.init.inpaint
    return inpaint is not None and inpaint.soft is not None
