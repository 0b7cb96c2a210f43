"""The engine of a network's file by itself: maps without a picture being made, one at a time."""

import logging
import time
from collections.abc import Iterator

import torch

from server.core.errors import LoadFailed, Unsupported
from server.core.image import ImageFinished, ImageStarted, StepDone
from server.core.jobs import Event, Work
from server.core.memory import MIB, RAM, Footprint
from server.core.models import ImageSettings, LoadedFacts, LoadSettings, ModelCard
from server.core.pixels import MapRequest
from server.engines.base import JobControl, OneAtATime, Report
from server.engines.image import placement
from server.engines.image.annotators.shelf import KINDS, Annotators
from server.engines.image.preprocess import requests
from server.engines.image.upscaling.job import ready
from server.engines.meminfo import process_bytes

logger = logging.getLogger(__name__)

WORKING = 1536 * MIB
"""What a picture of 2048 pixels takes on its way through VGG's first blocks, a part of it at a time."""


class AnnotatorLoader:
    """Starts the engine; which network a file holds is told by the module that the first job names."""

    def load(self, card: ModelCard, settings: LoadSettings, report: Report) -> "AnnotatorEngine":
        """Return the engine; raise LoadFailed when the device is not there."""
        if not isinstance(settings, ImageSettings):
            raise LoadFailed(f"model {card.id!r} draws maps, but it came with settings for text", model=card.id)
        if settings.threads > 0:
            torch.set_num_threads(settings.threads)
        begun = time.perf_counter()
        place = placement.choose(settings)
        report(1.0)
        logger.info("model=%s ready in %.1f s for %s", card.id, time.perf_counter() - begun, place.device)
        return AnnotatorEngine(card, Annotators(place, allow_pickle=settings.allow_pickle), place)


class AnnotatorEngine(OneAtATime):
    """Draws maps by the networks of one file."""

    def __init__(self, card: ModelCard, annotators: Annotators, place: placement.Placement) -> None:
        super().__init__()
        self._path = card.files[0]
        self._annotators = annotators
        size = 2 * card.size
        resident = {RAM: process_bytes() + size}
        working = {RAM: WORKING} if place.pool == RAM else {place.pool: WORKING + size}
        self.facts = LoadedFacts(
            slots=1, footprint=Footprint(resident=resident, working=working), device=str(place.device), dtype="float32"
        )

    def check(self, work: Work) -> None:
        """Raise Unsupported or InvalidValue for a request that cannot be run as it is."""
        if not isinstance(work, MapRequest) or work.preprocessing.module not in KINDS:
            raise Unsupported.of("model", "this model draws maps and does nothing else")
        if work.preprocessing.file != self._path:
            raise Unsupported.of("module", "the network was asked of another file")
        requests.check(work)

    def run(self, work: Work, control: JobControl) -> Iterator[Event]:
        """Yield the events of one job, a picture at a time."""
        if not isinstance(work, MapRequest):
            raise Unsupported.of("model", "this model draws maps and does nothing else")
        yield ImageStarted(passes=len(work.pictures), steps=1)
        for index, image in enumerate(requests.maps(work, self._annotators.draw)):
            yield StepDone(pass_index=index, step=1, steps=1)
            yield ready(index, image)
            if control.stopped:
                break
        yield ImageFinished(reason="stopped" if control.stopped else "complete")

    def close(self) -> None:
        """Free the network."""
        super().close()
        self._annotators.clear()
