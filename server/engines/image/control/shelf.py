"""The control models that jobs use, on the checkpoint's device, kept for the next job, which mostly uses the same."""

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from server.core.errors import DoesNotFit
from server.core.image import ControlUnit
from server.core.memory import RAM, readable
from server.engines.image.attention import settle
from server.engines.image.control.ip_adapter import IpAdapter
from server.engines.image.control.networks import Network, build, opened, size_of
from server.engines.image.placement import Placement, release
from server.engines.meminfo import meminfo

logger = logging.getLogger(__name__)

Key = tuple[str, int]
"""Path and time of the last change."""

MEMORY = Path("/proc/meminfo")


class Shelf:
    """Owns the networks. What a job does not use goes before what it lacks is loaded."""

    def __init__(self, unet: UNet2DConditionModel, place: Placement, *, allow_pickle: bool) -> None:
        self._unet = unet
        self._place = place
        self._allow_pickle = allow_pickle
        self._kept: dict[Key, Network | IpAdapter] = {}

    @property
    def held(self) -> int:
        """Bytes of all networks that are kept."""
        tensors = (tensor for network in self._kept.values() for tensor in network.module.parameters())
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def lend(self, units: Sequence[ControlUnit]) -> list[Network | IpAdapter]:
        """Return the network of each unit; the same for units that name the same file.

        Raises:
            InvalidValue: a file cannot be used, or not with this checkpoint.
            DoesNotFit: there is no room for it beside the checkpoint.
        """
        wanted = [_key(unit) for unit in units]
        if any(key not in wanted for key in self._kept):
            self._kept = {key: network for key, network in self._kept.items() if key in wanted}
            self._place.seats.clear()
            release(self._place)
        for key, unit in zip(wanted, units, strict=True):
            if key not in self._kept:
                self._kept[key] = self._opened(unit)
        return [self._kept[key] for key in wanted]

    def clear(self) -> None:
        """Forget all networks."""
        self._kept.clear()

    def _opened(self, unit: ControlUnit) -> Network | IpAdapter:
        dtype = self._place.precision.model
        with opened(Path(unit.path), unit.name, allow_pickle=self._allow_pickle) as tensors:
            needed = size_of(tensors.shapes, dtype)
            check_room(self._place, unit.name, needed)
            network = build(tensors, unit.name, self._unet, dtype)
        self._place.seats.admit([network.module])
        settle(network.module, self._place)
        logger.info("control model %s loaded, %s", unit.name, readable(needed))
        return network


def check_room(place: Placement, name: str, needed: int) -> None:
    """Raise DoesNotFit where there is no room for a control model of so many bytes."""
    pool, free = place.pool, free_bytes(place)
    if free is not None and needed > free:
        told = f"the control model {name!r} needs {readable(needed)} of {pool}, {readable(free)} is free"
        raise DoesNotFit(told, model=name, pool=str(pool), needed=needed, limit=free)


def free_bytes(place: Placement) -> int | None:
    """Return what is free where a network would lie, None where nobody tells."""
    if place.offload == "none" and place.device.type == "cuda":
        return int(torch.cuda.mem_get_info(place.device)[0])
    if place.offload == "none" and place.pool != RAM:
        return None
    return meminfo("MemAvailable", MEMORY)


def _key(unit: ControlUnit) -> Key:
    try:
        return unit.path, Path(unit.path).stat().st_mtime_ns
    except OSError:
        return unit.path, 0
