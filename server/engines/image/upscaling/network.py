"""The engine of an upscaler's file: a network loaded into this process, one job at a time, one tile at a time."""

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from server.core.errors import LoadFailed, Unsupported
from server.core.jobs import Event, Work
from server.core.memory import MIB, RAM, Footprint
from server.core.models import LARGEST_RESULT, ImageSettings, LoadedFacts, LoadSettings, ModelCard
from server.core.pixels import UpscaleRequest
from server.engines.base import JobControl, OneAtATime, Report
from server.engines.image import placement
from server.engines.image.upscaling import job
from server.engines.image.upscaling.lending import enlarger_on
from server.engines.image.upscaling.nets import Network, open_network
from server.engines.meminfo import process_bytes

logger = logging.getLogger(__name__)

PICTURES = 512 * MIB
"""What the picture and its result take in RAM while they are worked on: 64 million pixels, and a tile's worth over."""

TILE = 512 * MIB
"""What a tile of 192 pixels takes in float32: 462 MiB measured with an ESRGAN network of 23 blocks."""


class UpscalerLoader:
    """Loads files of networks that enlarge pictures."""

    def load(self, card: ModelCard, settings: LoadSettings, report: Report) -> "UpscalerEngine":
        """Load the network; raise LoadFailed or OutOfMemory."""
        if not isinstance(settings, ImageSettings):
            raise LoadFailed(f"model {card.id!r} enlarges pictures, but it came with settings for text", model=card.id)
        if settings.threads > 0:
            torch.set_num_threads(settings.threads)
        begun, base = time.perf_counter(), process_bytes()
        place = placement.choose(settings)
        with placement.memory_errors(place):
            network = open_network(Path(card.files[0]), allow_pickle=settings.allow_pickle)
            enlarger_on(network, place, tile=0, overlap=0)
        report(1.0)
        logger.info("model=%s loaded in %.1f s on %s", card.id, time.perf_counter() - begun, place.device)
        return UpscalerEngine(network, place, base=base, most=settings.largest_result)


class UpscalerEngine(OneAtATime):
    """A loaded network. Owns it until `close`. `base` is the process's size before loading.

    `most` is how many pixels an enlarged picture may have.
    """

    def __init__(self, network: Network, place: placement.Placement, *, base: int, most: int = LARGEST_RESULT) -> None:
        super().__init__()
        self._most = most
        self._network: Network | None = network
        self._place = place
        dtype = next(network.module.parameters()).dtype
        self.facts = LoadedFacts(
            slots=1,
            footprint=_footprint(network, place, base, dtype),
            device=str(place.device),
            dtype=str(dtype).removeprefix("torch."),
        )

    def check(self, work: Work) -> None:
        """Raise Unsupported or InvalidValue for a request that cannot be run as it is."""
        if not isinstance(work, UpscaleRequest):
            raise Unsupported.of("model", "this model enlarges pictures and does nothing else")
        job.check(work)

    def run(self, work: Work, control: JobControl) -> Iterator[Event]:
        """Yield the events of one job."""
        if self._network is None or not isinstance(work, UpscaleRequest):
            raise Unsupported.of("model", "this engine is closed or was asked for something else")
        with placement.memory_errors(self._place):
            enlarger = enlarger_on(self._network, self._place, tile=work.tile, overlap=work.overlap)
            yield from job.run(work, enlarger, control, self._most)

    def close(self) -> None:
        """Free the network."""
        super().close()
        self._network = None
        placement.release(self._place)


def _footprint(network: Network, place: placement.Placement, base: int, dtype: torch.dtype) -> Footprint:
    weights = sum(tensor.numel() * tensor.element_size() for tensor in network.module.parameters())
    tile = TILE * dtype.itemsize // 4
    if place.pool == RAM:
        return Footprint(resident={RAM: max(base + weights, process_bytes())}, working={RAM: PICTURES + tile})
    return Footprint(
        resident={place.pool: weights, RAM: max(base, process_bytes())},
        working={place.pool: tile, RAM: PICTURES},
    )
