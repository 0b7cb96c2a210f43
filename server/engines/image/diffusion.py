"""The diffusion engine: a checkpoint loaded into this process, one job at a time, one denoise step at a time."""

import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from server.core.errors import InvalidValue, LoadFailed, Unsupported
from server.core.image import Denoise, ImageRequest, Size
from server.core.jobs import Event, Work
from server.core.memory import Footprint
from server.core.models import ImageSettings, LoadedFacts, LoadSettings, ModelCard
from server.engines.base import JobControl, OneAtATime, Report
from server.engines.image import checkpoint, denoise, placement, prediction
from server.engines.image.adapters import Adapters
from server.engines.image.clip.tokenizer import load_tokenizer
from server.engines.image.embeddings import EmbeddingShelf
from server.engines.image.hires import UPSCALERS
from server.engines.image.loaded import Checkpoint
from server.engines.image.picture_job import Parts, PictureJob
from server.engines.image.request_checks import check_init
from server.engines.image.schedules import SCHEDULES
from server.engines.image.seeds import NoiseSource
from server.engines.image.text_stack import TextStack
from server.engines.image.unet_call import UNetCall
from server.engines.image.upscaling.lending import Lender
from server.engines.image.vae import Vae
from server.engines.image.vae_choice import with_room, with_vae

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
    """Loads single-file checkpoints."""

    def load(self, card: ModelCard, settings: LoadSettings, report: Report) -> "DiffusionEngine":
        """Load the model; raise LoadFailed or OutOfMemory."""
        if not isinstance(settings, ImageSettings):
            raise LoadFailed(f"model {card.id!r} makes pictures, but it came with settings for text", model=card.id)
        if settings.threads > 0:
            torch.set_num_threads(settings.threads)
        begun, base = time.perf_counter(), placement.process_bytes()
        place = placement.choose(settings)
        with placement.memory_errors(place):
            loaded = checkpoint.load(
                Path(card.files[0]),
                precision=place.precision,
                vae_path=Path(settings.vae) if settings.vae else None,
                allow_pickle=settings.allow_pickle,
                report=report,
            )
            placement.place(loaded, place)
        report(1.0)
        logger.info("model=%s loaded in %.1f s on %s", card.id, time.perf_counter() - begun, place.device)
        measured = placement.footprint(
            loaded.modules(), place, widest=loaded.vae.config.block_out_channels[0], base=base
        )
        measured = with_room(measured, loaded.vae, place)
        source = settings.vae or card.files[0]
        return DiffusionEngine(loaded, place, measured, allow_pickle=settings.allow_pickle, vae_source=source)


class DiffusionEngine(OneAtATime):
    """A loaded checkpoint. Owns its modules until `close`."""

    def __init__(
        self,
        loaded: checkpoint.Checkpoint,
        place: placement.Placement,
        measured: Footprint,
        *,
        allow_pickle: bool,
        vae_source: str = "",
    ) -> None:
        super().__init__()
        self._allow_pickle = allow_pickle
        self._vae_source = vae_source
        self._placement = place
        self._parts: Parts | None = _parts(loaded, place, allow_pickle=allow_pickle)
        self.facts = LoadedFacts(
            slots=1,
            footprint=measured,
            device=str(place.device),
            dtype=str(place.precision.model).removeprefix("torch."),
        )

    def check(self, work: Work) -> None:
        """Raise InvalidValue or Unsupported for a request that cannot be run as it is.

        The seeds of the first and last picture are tried out; those between are between.
        """
        if not isinstance(work, ImageRequest):
            raise Unsupported.of("model", "this model makes pictures; it answers no text requests")
        _check_size(work.size)
        _check_denoise(work.denoise)
        _check_range("batch_size", work.batch_size, 1, MOST_PICTURES)
        _check_range("batches", work.batches, 1, MOST_PICTURES)
        check_init(work)
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

    def run(self, work: Work, control: JobControl) -> Iterator[Event]:
        """Yield the events of one job."""
        if self._parts is None or not isinstance(work, ImageRequest):
            raise Unsupported.of("model", "this engine is closed or was asked for text")
        with placement.memory_errors(self._placement):
            chosen = None if work.vae == self._vae_source else work.vae
            with with_vae(self._parts, chosen, allow_pickle=self._allow_pickle) as parts:
                yield from PictureJob(parts, work, control).events()

    def close(self) -> None:
        """Free the model."""
        super().close()
        self._parts = None
        placement.release(self._placement)


def _parts(loaded: Checkpoint, place: placement.Placement, *, allow_pickle: bool) -> Parts:
    tokenizer = load_tokenizer()
    text = TextStack(loaded.texts, tokenizer, loaded.family, place.seats, place.device)
    dtype = place.precision.model
    return Parts(
        text=text,
        unet_module=loaded.unet,
        vae_module=loaded.vae,
        diffusion=denoise.Diffusion(
            unet=UNetCall(loaded.unet, loaded.family, dtype, place.seats),
            alphas=loaded.alphas_cumprod,
            prediction=loaded.prediction or "eps",
            # A1111 1.10 gives the UNet float16 times when it runs in half precision.
            time_dtype=torch.float32 if dtype == torch.float32 else torch.float16,
        ),
        vae=Vae(loaded.vae, place, loaded.latent_scale),
        adapters=Adapters(loaded, allow_pickle=allow_pickle),
        embeddings=EmbeddingShelf(tokenizer, text.widths, allow_pickle=allow_pickle),
        placement=place,
        upscalers=Lender(place, allow_pickle=allow_pickle),
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
