"""The diffusion engine: a checkpoint loaded into this process, one job at a time, one denoise step at a time."""

import logging
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import torch

from server.core.errors import InvalidValue, LoadFailed, Unsupported
from server.core.image import Denoise, ImageRequest, Size
from server.core.image_memory import asked_offload
from server.core.jobs import Event, JobDone, JobId, Work
from server.core.memory import RAM, Footprint, PoolId, add
from server.core.models import ImageSettings, LoadedFacts, LoadSettings, ModelCard
from server.engines.base import Engine, JobControl, OneAtATime, Report
from server.engines.image import checkpoint, denoise, files, placement, prediction
from server.engines.image.adapters import Adapters
from server.engines.image.annotators.shelf import Annotators
from server.engines.image.attention import settle
from server.engines.image.clip.tokenizer import load_tokenizer
from server.engines.image.companions import Build, Companions, extra_bytes
from server.engines.image.control.checks import check_control
from server.engines.image.control.controls import Control
from server.engines.image.control.eyes import Eyes
from server.engines.image.control.shelf import Shelf
from server.engines.image.embeddings import EmbeddingShelf
from server.engines.image.headroom import Room, available_bytes, bytes_of, fitting_offload, footprint, room_of
from server.engines.image.hires import UPSCALERS
from server.engines.image.hypernetworks import Hypernetworks
from server.engines.image.loaded import Checkpoint
from server.engines.image.meter import Meter
from server.engines.image.offload import HOME
from server.engines.image.parts import Parts
from server.engines.image.picture_job import PictureJob
from server.engines.image.pipelines.choice import is_for_pipelines
from server.engines.image.preview import Previews
from server.engines.image.prompts import Prompter
from server.engines.image.ready_memory import ReadyMemory
from server.engines.image.request_checks import check_init
from server.engines.image.schedules import SCHEDULES
from server.engines.image.seeds import NoiseSource
from server.engines.image.text_stack import TextStack
from server.engines.image.unet_call import UNetCall
from server.engines.image.upscaling.lending import Lender
from server.engines.image.vae import Vae
from server.engines.image.vae_choice import with_vae
from server.engines.meminfo import process_bytes

logger = logging.getLogger(__name__)

CELL = 8
"""Pixels of a latent cell, so the smallest side."""

LARGEST_SIDE = 16_384
MOST_STEPS = 10_000
MOST_PICTURES = 1_000

NUMBERS = (
    "cfg_scale",
    "churn",
    "tmin",
    "tmax",
    "noise",
    "sigma_min",
    "sigma_max",
    "rho",
    "min_uncond",
    "extra_noise",
)
"""Fields of `Denoise` that may be any finite number."""


class DiffusionLoader:
    """Loads checkpoints: single files, and folders in the layout of the diffusers library.

    `ready` is memory for weights that are converted on the CPU, used by the first load and let go after it.
    """

    def __init__(self, ready: ReadyMemory | None = None) -> None:
        self._ready = ready or ReadyMemory()

    def load(self, card: ModelCard, settings: LoadSettings, report: Report) -> Engine:
        """Load the model; raise LoadFailed or OutOfMemory."""
        if not isinstance(settings, ImageSettings):
            raise LoadFailed(f"model {card.id!r} makes pictures, but it came with settings for text", model=card.id)
        self._ready.settle()
        try:
            return self._load(card, settings, report)
        finally:
            self._ready.release()

    def _load(self, card: ModelCard, settings: ImageSettings, report: Report) -> Engine:
        if settings.threads > 0:
            torch.set_num_threads(settings.threads)
        if is_for_pipelines(Path(card.files[0])):
            self._ready.release()
            # Imported here, for it brings in libraries that our own loop does without and that take seconds to load.
            from server.engines.image.pipelines.engine import load as load_pipeline

            return load_pipeline(card, settings, report)
        begun, base = time.perf_counter(), process_bytes() - self._ready.touched
        asked = asked_offload(settings, card.image.family if card.image else "")
        place = placement.choose(settings, asked or "none")
        if place.device.type != "cpu":
            self._ready.release()
        with placement.memory_errors(place):
            loaded = checkpoint.load(
                Path(card.files[0]),
                precision=place.precision,
                vae_path=Path(settings.vae) if settings.vae else None,
                allow_pickle=settings.allow_pickle,
                report=report,
                spares=settings.spares,
                ready=self._ready,
            )
            self._ready.release()
            if asked is None:
                mode = fitting_offload(loaded, place, limit=settings.memory_limit)
                place = placement.choose(settings, mode)
            placement.place(loaded, place)
            settle(loaded.unet, place)
            settle(loaded.vae, place)
            loaded = _told(loaded, place)
        report(1.0)
        seconds = time.perf_counter() - begun
        logger.info("model=%s loaded in %.1f s on %s, offload=%s", card.id, seconds, place.device, place.offload)
        room = room_of(loaded, place, base=base, limit=settings.memory_limit)
        measured = footprint(loaded, room, base=base)
        source = settings.vae or card.files[0]
        return DiffusionEngine(
            loaded,
            room,
            measured,
            _previews(settings, place),
            allow_pickle=settings.allow_pickle,
            vae_source=source,
            source=card.files[0],
            build=lambda path: _companion(path, _for_companions(settings, card), room),
        )


class DiffusionEngine(OneAtATime):
    """A loaded checkpoint. Owns its modules until `close`."""

    def __init__(
        self,
        loaded: Checkpoint,
        room: Room,
        measured: Footprint,
        previews: Previews,
        *,
        allow_pickle: bool,
        build: Build,
        source: str = "",
        vae_source: str = "",
    ) -> None:
        super().__init__()
        self._allow_pickle = allow_pickle
        self._vae_source = vae_source
        self._source = source
        self._build = build
        place = room.placement
        self._placement = place
        self._room = room
        self._meter = Meter(place)
        self._parts: Parts | None = _parts(loaded, room, previews, allow_pickle=allow_pickle)
        self.facts = LoadedFacts(
            slots=1,
            footprint=measured,
            device=str(place.device),
            dtype=str(place.precision.model).removeprefix("torch."),
        )

    def check(self, work: Work) -> None:
        """Raise InvalidValue, Unsupported or DoesNotFit for a request that cannot be run as it is.

        The seeds of the first and last picture are tried out; those between are between.
        """
        if not isinstance(work, ImageRequest):
            raise Unsupported.of("model", "this model makes pictures; it answers no text requests")
        _check_size(work.size)
        _check_denoise(work.denoise)
        _check_range("batch_size", work.batch_size, 1, MOST_PICTURES)
        _check_range("batches", work.batches, 1, MOST_PICTURES)
        check_init(work)
        files.check(work.file)
        check_control(work)
        NoiseSource(work.seeds, (0, work.batch_size * work.batches - 1), (1, 1, 1))
        if self._parts is not None:
            _check_range("clip_skip", work.text.clip_skip, 1, self._parts.text.layers)
        if work.hires is not None:
            _check_size(work.hires.size)
            _check_size(work.hires.scale_to)
            _check_denoise(work.hires.denoise)
            _check_range("strength", work.hires.strength, 0.0, 1.0)
            if work.hires.upscaler not in UPSCALERS:
                known = ", ".join(UPSCALERS)
                raise InvalidValue.of("upscaler", f"unknown upscaler {work.hires.upscaler!r}; known are {known}")
        self._room.check(self._needed(work), None)

    def run(self, work: Work, control: JobControl) -> Iterator[Event]:
        """Yield the events of one job."""
        if self._parts is None or not isinstance(work, ImageRequest):
            raise Unsupported.of("model", "this engine is closed or was asked for text")
        self._room.check(self._needed(work), available_bytes(self._placement.device))
        self._meter.begin(self._held().get(self._placement.pool, 0))
        with placement.memory_errors(self._placement):
            chosen = self._other_vae(work)
            with with_vae(self._parts, chosen, allow_pickle=self._allow_pickle) as parts:
                others = Companions(own=parts, source=self._source, build=self._build, has_own_vae=chosen is not None)
                with others.lent() as companions:
                    yield from PictureJob(parts, work, control, companions).events()

    def done(self, job: JobId) -> JobDone:
        """Return the end of a job with what it took and what it has left behind."""
        return JobDone(job, taken=self._meter.end(), held=self._held())

    def _held(self) -> dict[PoolId, int]:
        """Return what the model holds between jobs, by pool: its own, and what the last job may share with the next."""
        resident = self.facts.footprint.resident
        if self._parts is None:
            return dict(resident)
        kept = {self._placement.pool: self._parts.control.shelf.held}
        return add([resident, kept, {RAM: self._parts.adapters.held}])

    def _needed(self, work: ImageRequest) -> int:
        """Return the most bytes that a request takes at once."""
        sees = self._parts is not None and self._parts.inputs != "none"
        extra = extra_bytes(work, self._source, self._placement)
        if self._parts is not None and self._other_vae(work) is not None:
            extra += bytes_of(self._parts.vae_module)  # of the same architecture, so of about this size
        return self._room.needed(work, sees_picture=sees) + extra

    def _other_vae(self, work: ImageRequest) -> str | None:
        """Return the file of the VAE that a request names, None when it is the one that is loaded."""
        return None if work.vae == self._vae_source else work.vae

    def close(self) -> None:
        """Free the model."""
        super().close()
        self._parts = None
        placement.release(self._placement)


def _companion(path: Path, settings: ImageSettings, room: Room) -> Parts:
    """Load a checkpoint that takes part in a job of another one, on the CPU; raise LoadFailed."""
    place = room.placement
    loaded = checkpoint.load(
        path,
        precision=place.precision,
        vae_path=Path(settings.vae) if settings.vae else None,
        allow_pickle=settings.allow_pickle,
        report=lambda fraction: None,
        spares=settings.spares,
    )
    place.seats.split(loaded.unet)
    settle(loaded.unet, place)
    settle(loaded.vae, place)
    if loaded.prediction is None:
        place.moving(loaded.unet, place.device)
        loaded = _told(loaded, place)
        place.moving(loaded.unet, HOME)
    return _parts(loaded, room, _previews(settings, place), allow_pickle=settings.allow_pickle)


def _for_companions(settings: ImageSettings, card: ModelCard) -> ImageSettings:
    """Return the settings without a VAE that was chosen because it bears the name of this checkpoint."""
    vae, stem = settings.vae, Path(card.files[0]).stem.casefold()
    if vae is not None and Path(vae).name.casefold().startswith(stem):
        return msgspec.structs.replace(settings, vae=None)
    return settings


def _previews(settings: ImageSettings, place: placement.Placement) -> Previews:
    return Previews(settings.preview_decoder, place, allow_pickle=settings.allow_pickle)


def _told(loaded: Checkpoint, place: placement.Placement) -> Checkpoint:
    """Return the checkpoint with what its UNet predicts, found out where no file says."""
    if loaded.prediction is not None:
        return loaded
    with placement.visiting(loaded.unet, place):
        found = prediction.asked(loaded.unet, place.device)
    logger.info("the UNet predicts %s, as a trial shows", "velocity" if found == "v" else "noise")
    return replace(loaded, prediction=found)


def _parts(loaded: Checkpoint, room: Room, previews: Previews, *, allow_pickle: bool) -> Parts:
    place = room.placement
    tokenizer = load_tokenizer()
    text = TextStack(loaded.texts, tokenizer, loaded.family, place.seats, place.device)
    dtype = place.precision.model
    unet = UNetCall(loaded.unet, loaded.family, dtype, place.seats)
    return Parts(
        text=text,
        unet_module=loaded.unet,
        vae_module=loaded.vae,
        diffusion=denoise.Diffusion(
            unet=unet,
            alphas=loaded.alphas_cumprod,
            prediction=loaded.prediction or "eps",
            # A1111 1.10 gives the UNet float16 times when it runs in half precision. It has no bfloat16, whose pictures
            # shall be near those of float32.
            time_dtype=torch.float16 if dtype == torch.float16 else torch.float32,
        ),
        vae=Vae(loaded.vae, place, loaded.latent_scale, room),
        adapters=Adapters(loaded, allow_pickle=allow_pickle),
        hypernetworks=Hypernetworks(loaded.unet, place, allow_pickle=allow_pickle),
        prompts=Prompter(text, EmbeddingShelf(tokenizer, text.widths, allow_pickle=allow_pickle)),
        placement=place,
        upscalers=Lender(place, allow_pickle=allow_pickle),
        control=Control(
            unet=unet,
            shelf=Shelf(loaded.unet, place, allow_pickle=allow_pickle),
            eyes=Eyes(place, allow_pickle=allow_pickle),
            placement=place,
            alphas=loaded.alphas_cumprod,
            annotators=Annotators(place, allow_pickle=allow_pickle),
        ),
        previews=previews,
        inputs=loaded.picture_inputs,
    )


def _check_size(size: Size) -> None:
    _check_range("width", size.width, CELL, LARGEST_SIDE)
    _check_range("height", size.height, CELL, LARGEST_SIDE)


def _check_denoise(asked: Denoise) -> None:
    denoise.sampler_of(asked)
    if asked.schedule not in SCHEDULES:
        raise InvalidValue.of("schedule", f"no schedule {asked.schedule!r}; known are {', '.join(SCHEDULES)}")
    _check_range("steps", asked.steps, 1, MOST_STEPS)
    for name in NUMBERS:
        if not math.isfinite(getattr(asked, name)):
            raise InvalidValue.of(name, f"{name} must be a finite number")
    if asked.eta is not None and not math.isfinite(asked.eta):
        raise InvalidValue.of("eta", "eta must be a finite number")


def _check_range(param: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise InvalidValue.of(param, f"{param} is {value}, it must be between {least} and {most}")
