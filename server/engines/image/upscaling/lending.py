"""Upscalers' files at work for a checkpoint: between two passes, in its process."""

from pathlib import Path

import torch

from server.core.image import UpscalerRef
from server.engines.image.placement import Placement
from server.engines.image.upscaling.by_tiles import NetworkEnlarger
from server.engines.image.upscaling.nets import Network, open_network


class Lender:
    """Opens an upscaler's file when a job asks for it, and keeps the last one: jobs mostly ask for the same."""

    def __init__(self, place: Placement, *, allow_pickle: bool) -> None:
        self._place = place
        self._allow_pickle = allow_pickle
        self._last: tuple[str, Network] | None = None

    def lend(self, wanted: UpscalerRef) -> NetworkEnlarger:
        """Return the enlarger, its network on the checkpoint's device.

        Raises:
            LoadFailed: the file cannot be used.
        """
        if self._last is None or self._last[0] != wanted.path:
            self._last = None
            self._last = wanted.path, open_network(Path(wanted.path), allow_pickle=self._allow_pickle)
        network = self._last[1]
        return enlarger_on(network, self._place, tile=wanted.tile, overlap=wanted.overlap)


def enlarger_on(network: Network, place: Placement, *, tile: int, overlap: int) -> NetworkEnlarger:
    """Bring a network to where it runs, in half precision only where it and the device are fit for that."""
    dtype = place.precision.model if network.runs_in_half else torch.float32
    network.module.to(place.device, dtype)
    return NetworkEnlarger(network, device=place.device, dtype=dtype, tile=tile, overlap=overlap)
