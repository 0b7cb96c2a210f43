"""A txt2img request to the core's words: `plan` decides everything, `to_core` gives the engine's part of it.

Pure: models, styles, options and the dice come in a `Context`. Nothing here waits or reads a file.

    to_core(wire.Txt2Img(prompt="a cat", seed=1), Context(model="tiny"))  ->  ImageRequest
"""

import random
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from compat.a1111 import checks, companions, hires, wire
from compat.a1111.controlnet.units import controlled
from compat.a1111.denoise import denoise_of
from compat.a1111.given import Given
from compat.a1111.names import Sampling, find_sampler, resolve
from compat.a1111.networks import (
    HYPERNETWORK,
    Mentioned,
    Networks,
    cut_tags,
    default_tag,
    embeddings_for,
    find_networks,
)
from compat.a1111.options import OptionValues
from compat.a1111.prompt_syntax import Timing, parse_negative, parse_prompt
from compat.a1111.settings import A1111Settings
from compat.a1111.styles import Style, apply_styles, cut_comments
from compat.a1111.upscalers import Upscaler
from server.core.errors import InvalidValue
from server.core.image import Emphasis, HiresPass, ImageRequest, NoiseSource, Seeds, Size, TextEncoding
from server.core.models import ModelCard

VAE = "sd_vae"

LARGEST_SEED = 2**64 - 1
SMALLEST_SEED = -(2**63)
LARGEST_CROP = 16_384

SOURCES: dict[str, NoiseSource] = {"GPU": "device", "CPU": "cpu", "NV": "philox"}
EMPHASES: dict[str, Emphasis] = {"None": "none", "Ignore": "ignore", "Original": "original", "No norm": "no_norm"}


def draw_seed() -> int:
    """Return a random seed as A1111 draws it: 0 ... 4294967293."""
    return random.randrange(4294967294)


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What a request is read against.

    `model` is the checkpoint's id, `model_file` its file; `draw` gives a seed where -1 was sent.
    """

    model: str
    settings: A1111Settings = A1111Settings()
    options: OptionValues = msgspec.field(default_factory=OptionValues)
    styles: Mapping[str, Style] = {}
    loras: tuple[ModelCard, ...] = ()
    embeddings: tuple[ModelCard, ...] = ()
    hypernetworks: tuple[ModelCard, ...] = ()
    controlnets: tuple[ModelCard, ...] = ()
    encoders: tuple[ModelCard, ...] = ()
    annotators: tuple[ModelCard, ...] = ()
    vaes: tuple[ModelCard, ...] = ()
    model_file: str = ""
    upscalers: tuple[Upscaler, ...] = ()
    checkpoints: tuple[ModelCard, ...] = ()
    draw: Callable[[], int] = draw_seed


class Texts(msgspec.Struct, frozen=True, kw_only=True):
    """The four prompts: as infotexts show them, after styles and comments, tags still inside."""

    prompt: str
    negative: str
    hires_prompt: str
    hires_negative: str


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A request with everything decided: the engine's part (`work`) and what the answer tells about it.

    `size` is the first pass's as asked for, not rounded. `hires` is the second pass's sampler and schedule.
    `ignored` names what was left out. `vae` is the one chosen by name. `given` is there for a request of img2img.
    `more` are entries of the infotext that a script adds, `control` those of ControlNet units. `others` are further
    checkpoints.
    """

    request: wire.Txt2Img
    work: ImageRequest
    options: OptionValues
    texts: Texts
    sampling: Sampling
    size: Size
    seed: int
    subseed: int
    hires: Sampling | None = None
    loras: tuple[Mentioned, ...] = ()
    embeddings: tuple[ModelCard, ...] = ()
    ignored: tuple[str, ...] = ()
    vae: ModelCard | None = None
    given: Given | None = None
    more: Mapping[str, Any] = {}
    control: Mapping[str, str] = {}
    others: companions.Named = companions.Named()


def to_core(request: wire.Txt2Img, context: Context) -> ImageRequest:
    """Return what the engine is asked for; raise InvalidValue, Unsupported or Refused."""
    return plan(request, context).work


class _Case(msgspec.Struct, frozen=True):
    """A request with its options, on the way to a plan."""

    request: wire.Txt2Img
    options: OptionValues
    context: Context

    @property
    def weighted(self) -> bool:
        """Tell whether prompts have weights and breaks."""
        return self.options.text("emphasis") != "None"


class _Prompts(msgspec.Struct, frozen=True, kw_only=True):
    """The prompts in all their forms: shown, and cut for the engine; with the networks that their tags name."""

    shown: Texts
    prompt: str
    hires_prompt: str
    networks: Networks
    hires_networks: Networks


def plan(request: wire.Txt2Img, context: Context) -> Plan:
    """Decide a request.

    Raises:
        InvalidValue: a field is out of bounds; the fact `param` names it.
        Unsupported: it asks for something that would change the picture and is not offered.
        Refused: it names a script, sampler, upscaler or checkpoint that is not there.
        Unreadable: a ControlNet unit is none.
    """
    checks.check_bounds(request, context.settings)
    checks.check_offered(request)
    use = checks.use_options(request, context.options)
    checks.check_faces(request, use.values)
    case = _Case(request, use.values, context)
    size = _first_size(request)
    checks.check_size("width", size.width, size.height, context.settings)
    sampling = resolve(request.sampler_name or request.sampler_index, request.scheduler)
    second = hires.sampling_of(request, sampling) if request.enable_hr else None
    prompts = _prompts(case)
    seed, subseed = _seeds(request, context.draw)
    dice = seed + max(seed if request.subseed in (None, -1) else subseed, 0)
    control = controlled(
        request.alwayson_scripts,
        use.values,
        context.controlnets,
        seed=dice & 0xFFFFFFFF,
        encoders=context.encoders,
        annotators=context.annotators,
    )
    work = _work(case, sampling, second, prompts, _core_seeds(case, seed, subseed))
    others = companions.named(request, context.checkpoints, context.model)
    return Plan(
        request=request,
        work=companions.joined(msgspec.structs.replace(work, control=control.units), request, use.values, others),
        options=use.values,
        texts=prompts.shown,
        sampling=sampling,
        size=size,
        seed=seed,
        subseed=subseed,
        hires=second,
        loras=prompts.networks.mentioned,
        embeddings=context.embeddings,
        vae=vae_named(use.values.text(VAE), context.vaes),
        ignored=(
            *(*_ignored(request), *use.ignored, *control.ignored),
            *(f"lora:{name}" for name in prompts.networks.missing),
        ),
        control=control.told,
        others=others,
    )


def _work(case: _Case, sampling: Sampling, second: Sampling | None, prompts: _Prompts, seeds: Seeds) -> ImageRequest:
    request, options, context = case.request, case.options, case.context
    steps = request.steps or 0
    timing = _timing(sampling, steps, options)
    shown = prompts.shown
    return ImageRequest(
        model=context.model,
        prompt=parse_prompt(prompts.prompt, timing, weighted=case.weighted),
        negative=parse_negative(shown.negative, timing, weighted=case.weighted),
        size=_first_size(request),
        seeds=seeds,
        denoise=denoise_of(request, options, sampling, steps),
        text=_encoding(options),
        batch_size=request.batch_size or 1,
        batches=request.n_iter or 1,
        hires=None if second is None else _hires(case, second, timing, prompts),
        vae=_vae_file(options.text(VAE), context),
        adapters=prompts.networks.adapters,
        hypernetworks=prompts.networks.hypernetworks,
        embeddings=embeddings_for(
            [prompts.prompt, shown.negative, prompts.hires_prompt, shown.hires_negative], context.embeddings
        ),
        tiling=request.tiling if request.tiling is not None else options.flag("tiling"),
        preview_every=_preview_every(options, context.settings),
    )


def vae_named(name: str, vaes: Iterable[ModelCard]) -> ModelCard | None:
    """Return the VAE that an option means: a file name with extension, in whatever folder it lies."""
    return next((card for card in vaes if card.name.replace("\\", "/").rsplit("/", 1)[-1] == name), None)


def _vae_file(name: str, context: Context) -> str | None:
    """Return the file to take the VAE from: None and unknown names mean the checkpoint's own, as in A1111."""
    if name in ("", "Automatic"):
        return None
    card = vae_named(name, context.vaes)
    return card.files[0] if card is not None else context.model_file or None


def _first_size(request: wire.Txt2Img) -> Size:
    if request.firstphase_width or request.firstphase_height:
        return Size(request.firstphase_width or 0, request.firstphase_height or 0)
    return Size(request.width or 0, request.height or 0)


def _texts(request: wire.Txt2Img, options: OptionValues, context: Context) -> Texts:
    styles = [context.styles.get(name, Style(name)) for name in request.styles or []]

    def ready(text: str, negative: bool, param: str) -> str:
        merged = apply_styles(text, [style.negative if negative else style.prompt for style in styles], param)
        return cut_comments(merged) if options.flag("enable_prompt_comments") else merged

    prompt, negative = request.prompt or "", request.negative_prompt or ""
    suffix = _default_tags(prompt, options, context)
    return Texts(
        prompt=ready(prompt, False, "prompt") + suffix,
        negative=ready(negative, True, "negative_prompt"),
        hires_prompt=ready(request.hr_prompt or prompt, False, "hr_prompt") + suffix,
        hires_negative=ready(request.hr_negative_prompt or negative, True, "hr_negative_prompt"),
    )


def _default_tags(prompt: str, options: OptionValues, context: Context) -> str:
    """Return the tags of the networks that options put into every prompt."""
    written = {tag.items[0] for tag in cut_tags(prompt)[1]}
    multiplier = options.number("extra_networks_default_multiplier")
    found = ""
    for kind, option, cards in (
        (HYPERNETWORK, "sd_hypernetwork", context.hypernetworks),
        ("lora", "sd_lora", context.loras),
    ):
        name = options.text(option)
        if name != "None" and name not in written and name in {card.stem for card in cards}:
            found += default_tag(kind, name, multiplier)
    return found


def _prompts(case: _Case) -> _Prompts:
    shown = _texts(case.request, case.options, case.context)
    prompt, tags = cut_tags(shown.prompt)
    hires_prompt, hires_tags = cut_tags(shown.hires_prompt)
    networks = hires_networks = Networks()
    if not case.request.disable_extra_networks:
        known = case.context.loras, case.context.hypernetworks
        networks, hires_networks = find_networks(tags, *known), find_networks(hires_tags, *known)
    return _Prompts(
        shown=shown, prompt=prompt, hires_prompt=hires_prompt, networks=networks, hires_networks=hires_networks
    )


def _timing(sampling: Sampling, steps: int, options: OptionValues, base: Timing | None = None) -> Timing:
    return Timing(
        calls=steps * sampling.sampler.calls,
        base_calls=None if base is None else base.calls,
        old_rule=options.flag("use_old_scheduling"),
    )


def _seeds(request: wire.Txt2Img, draw: Callable[[], int]) -> tuple[int, int]:
    count = (request.batch_size or 1) * (request.n_iter or 1)
    seeds = []
    for param, asked in (("seed", request.seed), ("subseed", request.subseed)):
        seed = draw() if asked is None or asked == -1 else asked
        if not SMALLEST_SEED <= seed <= LARGEST_SEED - count:
            raise InvalidValue.of(param, "the seed does not fit in 64 bits")
        seeds.append(seed)
    return seeds[0], seeds[1]


def _core_seeds(case: _Case, seed: int, subseed: int) -> Seeds:
    request, options = case.request, case.options
    width, height = request.seed_resize_from_w or 0, request.seed_resize_from_h or 0
    return Seeds(
        first=seed,
        variation=subseed,
        variation_strength=request.subseed_strength or 0.0,
        resize_from=Size(width, height) if width > 0 and height > 0 else None,
        source=SOURCES.get(options.text("randn_source"), "device"),
        later_delta=options.integer("eta_noise_seed_delta", -(2**31), 2**32),
    )


def _encoding(options: OptionValues) -> TextEncoding:
    return TextEncoding(
        clip_skip=options.integer("CLIP_stop_at_last_layers", 1, 12),
        emphasis=EMPHASES.get(options.text("emphasis"), "original"),
        comma_backtrack=options.integer("comma_padding_backtrack", 0, 74),
        pad_uncond=options.flag("pad_cond_uncond"),
        clip_skip_first=options.flag("sdxl_clip_l_skip"),
        crop_top=options.integer("sdxl_crop_top", 0, LARGEST_CROP),
        crop_left=options.integer("sdxl_crop_left", 0, LARGEST_CROP),
        aesthetic=options.number("sdxl_refiner_high_aesthetic_score"),
        negative_aesthetic=options.number("sdxl_refiner_low_aesthetic_score"),
    )


def _hires(case: _Case, sampling: Sampling, first: Timing, prompts: _Prompts) -> HiresPass:
    request, options, context = case.request, case.options, case.context
    target = hires.target_of(request, _first_size(request), context.settings)
    between = hires.upscaler_of(request, context.upscalers, options)
    steps = request.hr_second_pass_steps or request.steps or 0
    timing = _timing(sampling, steps, options, first)
    negative = prompts.shown.hires_negative
    return HiresPass(
        size=target.size,
        scale_to=target.scale_to,
        upscaler=between.id,
        upscaler_file=between.file,
        strength=hires.strength_of(request),
        denoise=denoise_of(request, options, sampling, steps),
        prompt=parse_prompt(prompts.hires_prompt, timing, weighted=case.weighted, param="hr_prompt"),
        negative=parse_negative(negative, timing, weighted=case.weighted, param="hr_negative_prompt"),
        adapters=prompts.hires_networks.adapters,
        hypernetworks=prompts.hires_networks.hypernetworks,
    )


def _preview_every(options: OptionValues, settings: A1111Settings) -> int:
    if settings.previews_every >= 0:
        return settings.previews_every
    every = options.integer("show_progress_every_n_steps", -1, 10_000)
    return every if options.flag("live_previews_enable") and every > 0 else 0


def _ignored(request: wire.Txt2Img) -> tuple[str, ...]:
    left_out = list(checks.ignored_scripts(request))
    asked = request.sampler_name or request.sampler_index
    sampling = resolve(asked, None)
    if find_sampler(asked) is None and not asked.startswith(sampling.sampler.name + " "):
        left_out.append("sampler_name" if request.sampler_name else "sampler_index")
    return tuple(left_out)
