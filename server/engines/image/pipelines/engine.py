"""The pipeline engine: a model of a later family, run by diffusers' own pipeline, one job and one step at a time."""

import logging
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
from diffusers.utils import logging as diffusers_logging

from server.core.errors import InvalidValue, LoadFailed, Unsupported
from server.core.families import token_width
from server.core.image import Denoise, HiresPass, ImageRequest, Size
from server.core.image_memory import VAE_WIDTH, asked_offload
from server.core.jobs import Event, JobDone, JobId, Work
from server.core.memory import RAM, PoolId, add
from server.core.models import ImageSettings, LoadedFacts, ModelCard
from server.engines.base import JobControl, OneAtATime, Report
from server.engines.image import files, placement
from server.engines.image.folder import INDEX
from server.engines.image.hires import UPSCALERS
from server.engines.image.loaded import Sources
from server.engines.image.meter import Meter
from server.engines.image.pipelines.adapters import PipelineAdapters
from server.engines.image.pipelines.calls import check_served
from server.engines.image.pipelines.index import read_index
from server.engines.image.pipelines.job import PipelineJob
from server.engines.image.pipelines.latents import grid_of, unit_of
from server.engines.image.pipelines.loaded import Loaded, bytes_of, modules_of
from server.engines.image.pipelines.loading import load_parts
from server.engines.image.pipelines.room import PipelineRoom
from server.engines.image.pipelines.seating import seat, seated
from server.engines.image.pipelines.single import Borrowed, borrowed
from server.engines.image.pipelines.watching import Watch
from server.engines.image.placement import Placement
from server.engines.image.request_checks import check_init
from server.engines.image.seeds import NoiseSource
from server.engines.image.upscaling.lending import Lender
from server.engines.meminfo import process_bytes

logger = logging.getLogger(__name__)

CELL = 8
"""Pixels of a cell for which upscalers of latents are made."""

LARGEST_SIDE = 16_384
MOST_STEPS = 1_000
MOST_PICTURES = 1_000


def load(card: ModelCard, settings: ImageSettings, report: Report) -> "PipelineEngine":
    """Load the folder or file of a later family.

    Raises:
        LoadFailed: unreadable, incomplete, or nothing that makes pictures here; the sentence says which.
    """
    diffusers_logging.disable_progress_bar()
    begun, base = time.perf_counter(), process_bytes()
    asked = asked_offload(settings, card.image.family if card.image else "")
    settings = _settled(settings)
    place = placement.choose(settings, asked or "none")
    with placement.memory_errors(place):
        source = _source(Path(card.files[0]), settings, place)
        index = read_index(source.folder)
        sources = Sources(allow_pickle=False)
        parts = load_parts(
            source.folder, index, precision=place.precision, sources=sources, report=report, overlay=source.parts
        )
        limit = settings.memory_limit
        if asked is None:
            place = placement.choose(settings, _room(parts, place, base=base, limit=limit).fitting_offload(limit))
        pipeline = _built(seated(index.kind, place), parts, index.values)
        seat(modules_of(parts), place)
        room = _room(parts, place, base=base, limit=limit)
    report(1.0)
    seconds = time.perf_counter() - begun
    kind = index.kind.__name__
    logger.info("model=%s (%s) loaded in %.1f s on %s, offload=%s", card.id, kind, seconds, place.device, place.offload)
    return PipelineEngine(
        Loaded(
            pipeline=pipeline,
            source=card.files[0],
            watch=Watch(pipeline.scheduler),
            grid=grid_of(pipeline),
            unit=unit_of(pipeline),
            placement=place,
            room=room,
            adapters=PipelineAdapters(pipeline, allow_pickle=settings.allow_pickle),
            upscalers=Lender(place, allow_pickle=settings.allow_pickle),
        )
    )


class PipelineEngine(OneAtATime):
    """A loaded pipeline. Owns its networks until `close`."""

    def __init__(self, loaded: Loaded) -> None:
        super().__init__()
        self._loaded: Loaded | None = loaded
        place = loaded.placement
        self._placement = place
        self._meter = Meter(place)
        self.facts = LoadedFacts(
            slots=1,
            footprint=loaded.room.footprint(),
            device=str(place.device),
            dtype=str(place.precision.model).removeprefix("torch."),
        )

    def check(self, work: Work) -> None:
        """Raise InvalidValue, Unsupported or DoesNotFit for a request that cannot be run as it is."""
        if not isinstance(work, ImageRequest):
            raise Unsupported.of("model", "this model makes pictures; it answers no text requests")
        check_served(work)
        check_init(work)
        files.check(work.file)
        _check_denoise(work.denoise)
        _within("batch_size", work.batch_size, 1, MOST_PICTURES)
        _within("batches", work.batches, 1, MOST_PICTURES)
        NoiseSource(work.seeds, (0, work.batch_size * work.batches - 1), (1, 1, 1))
        if self._loaded is not None:
            _check_size(work.size, self._loaded.unit)
            _check_for(self._loaded, _fitted(work, self._loaded.unit))

    def run(self, work: Work, control: JobControl) -> Iterator[Event]:
        """Yield the events of one job."""
        loaded = self._loaded
        if loaded is None or not isinstance(work, ImageRequest):
            raise Unsupported.of("model", "this engine is closed or was asked for text")
        request = _fitted(work, loaded.unit)
        loaded.room.check(request, now=True)
        self._meter.begin(self._held().get(self._placement.pool, 0))
        with placement.memory_errors(self._placement):
            yield from PipelineJob(loaded, request, control).events()

    def done(self, job: JobId) -> JobDone:
        """Return the end of a job with what it took and what it has left behind."""
        return JobDone(job, taken=self._meter.end(), held=self._held())

    def _held(self) -> dict[PoolId, int]:
        """Return what the model holds between jobs, by pool: its own, and the originals of weights that are changed."""
        kept = 0 if self._loaded is None else self._loaded.adapters.held
        return add([self.facts.footprint.resident, {RAM: kept}])

    def close(self) -> None:
        """Free the model."""
        super().close()
        self._loaded = None
        placement.release(self._placement)


def _source(path: Path, settings: ImageSettings, place: Placement) -> Borrowed:
    """Return the folder that a model is read from, with the parts that a single file brings."""
    if path.name == INDEX:
        return Borrowed(folder=path.parent, parts={})
    return borrowed(path, settings, place.precision)


def _settled(settings: ImageSettings) -> ImageSettings:
    """Return the settings with the dtype that these families were trained in, where none is asked for.

    Their text encoders leave the range of float16.
    """
    on_device = placement.choose(settings).device.type != "cpu"
    return msgspec.structs.replace(settings, dtype="bfloat16") if settings.dtype == "auto" and on_device else settings


def _built(kind: Any, parts: Mapping[str, Any], values: Mapping[str, Any]) -> Any:
    try:
        pipeline = kind(**parts, **values)
    except (TypeError, ValueError, AttributeError, KeyError, OSError, ImportError) as error:
        raise LoadFailed(f"the parts of the folder make no {kind.__name__}: {error}") from error
    if getattr(pipeline, "scheduler", None) is None or getattr(pipeline, "vae", None) is None:
        raise LoadFailed(f"a {kind.__name__} has no scheduler or VAE, which is not served")
    pipeline.set_progress_bar_config(disable=True)
    if hasattr(pipeline.vae, "enable_slicing"):
        pipeline.vae.enable_slicing()
    return pipeline


def _room(parts: Mapping[str, Any], place: Placement, *, base: int, limit: int) -> PipelineRoom:
    """Return what is known of memory of these parts at this place; `base` is the process before loading."""
    found = modules_of(parts)
    body: Any = found.unet.config
    vae: Any = getattr(found.vae, "config", {})
    rest = sum(bytes_of(module) for module in (*found.texts, *found.others))
    room = PipelineRoom(
        placement=place,
        weights=(bytes_of(found.unet), bytes_of(found.vae), rest),
        width=token_width(body),
        vae_width=(vae.get("block_out_channels") or [vae.get("base_dim") or VAE_WIDTH])[0],
        base=base,
    )
    return replace(room, limit=room.limited(limit))


def _fitted(request: ImageRequest, unit: int) -> ImageRequest:
    """Return the request with sides that the pipeline can make: what is beyond a multiple is left out, as in A1111."""
    hires = request.hires
    if hires is not None:
        hires = msgspec.structs.replace(hires, size=_floored(hires.size, unit), scale_to=_floored(hires.scale_to, unit))
    return msgspec.structs.replace(request, size=_floored(request.size, unit), hires=hires)


def _floored(size: Size, unit: int) -> Size:
    return Size(size.width // unit * unit, size.height // unit * unit)


def _check_for(loaded: Loaded, request: ImageRequest) -> None:
    _check_size(request.size, loaded.unit)
    if request.hires is not None:
        _check_second(request.hires, loaded)
    if request.init is not None or request.hires is not None:
        begins = loaded.grid is not None and loaded.grid.keeping.begins and loaded.watch.is_flow
        if not begins:
            name = type(loaded.pipeline).__name__
            raise Unsupported.of("init_images", f"a {name} makes pictures from prompts alone")
    loaded.room.check(request, now=False)


def _check_second(hires: HiresPass, loaded: Loaded) -> None:
    _check_size(hires.size, loaded.unit)
    _check_size(hires.scale_to, loaded.unit)
    _check_denoise(hires.denoise)
    _within("strength", hires.strength, 0.0, 1.0)
    if loaded.grid is not None and loaded.grid.cell != CELL:
        raise Unsupported.of("hires", "this family has no second pass here: its latents are coarser than others'")
    if hires.checkpoint is not None:
        raise Unsupported.of("checkpoint", "the second pass of this family is made by the same model")
    if hires.upscaler not in UPSCALERS:
        raise InvalidValue.of("upscaler", f"unknown upscaler {hires.upscaler!r}; known are {', '.join(UPSCALERS)}")


def _check_size(size: Size, unit: int) -> None:
    _within("width", size.width, unit, LARGEST_SIDE)
    _within("height", size.height, unit, LARGEST_SIDE)


def _check_denoise(asked: Denoise) -> None:
    _within("steps", asked.steps, 1, MOST_STEPS)
    for name, value in (("cfg_scale", asked.cfg_scale), ("distilled_scale", asked.distilled_scale)):
        if value is not None and not math.isfinite(value):
            raise InvalidValue.of(name, f"{name} must be a finite number")


def _within(param: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise InvalidValue.of(param, f"{param} is {value}, it must be between {least:g} and {most:g}")
