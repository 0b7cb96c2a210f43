"""What a loaded model holds, and whether a job fits beside it: a clear no instead of a process that the system ends."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from server.core.errors import DoesNotFit
from server.core.image import ImageRequest, Size
from server.core.image_memory import PIXELS, Offload, Workload, choose_offload, decode_bytes, job_bytes, seated_bytes
from server.core.memory import RAM, Footprint, PoolId, readable
from server.engines.image.loaded import Checkpoint
from server.engines.image.placement import Placement
from server.engines.meminfo import meminfo, process_bytes

MEMINFO = Path("/proc/meminfo")


@dataclass(frozen=True, kw_only=True)
class Room:
    """What one loaded model needs to know about memory: how wide it is, where it runs, what it may take there.

    `limit` are the bytes that a job may take besides what the model holds all the time; None = not limited.
    """

    family: str
    unet_width: int
    vae_width: int
    placement: Placement
    limit: int | None

    def workload(self, size: Size, rows: int) -> Workload:
        """Return a pass at this size as the estimate wants it."""
        precision = self.placement.precision
        return Workload(
            family=self.family,
            pixels=(size.width // 8) * (size.height // 8) * 64,
            rows=rows,
            unet_bytes=precision.model.itemsize,
            vae_bytes=precision.vae.itemsize,
            unet_width=self.unet_width,
            vae_width=self.vae_width,
            on_cpu=self.placement.device.type == "cpu",
        )

    def needed(self, request: ImageRequest, *, sees_picture: bool) -> int:
        """Return the most bytes that a request takes at once."""
        encodes = request.init is not None or sees_picture
        needed = job_bytes(self.workload(request.size, 2 * request.batch_size), encodes=encodes)
        if request.hires is None:
            return needed
        return max(needed, job_bytes(self.workload(request.hires.size, 2 * request.batch_size), encodes=True))

    def check(self, needed: int, available: int | None) -> None:
        """Raise DoesNotFit when a job needs more than it may ever take, or more than is `available` now."""
        limit = min((bound for bound in (self.limit, available) if bound is not None), default=None)
        if limit is not None and needed > limit:
            pool: PoolId = self.placement.pool
            raise DoesNotFit(
                f"this request needs about {readable(needed)} of {pool} to work in, {readable(max(limit, 0))} are "
                "there; ask for a smaller size or batch",
                pool=pool,
                needed=needed,
                limit=max(limit, 0),
            )

    def has_whole_decode(self, height: int, width: int) -> bool:
        """Tell whether a picture of so many pixels can be decoded in one piece now."""
        bounds = [bound for bound in (self.limit, available_bytes(self.placement.device)) if bound is not None]
        return not bounds or decode_bytes(self.workload(Size(width, height), 2)) <= min(bounds)


def room_of(loaded: Checkpoint, placement: Placement, *, base: int, limit: int = 0) -> Room:
    """Return the room of a loaded model; `base` is the process before loading, `limit` 0 = the device's memory."""
    total = limit or total_bytes(placement.device)
    taken = _resident(loaded, placement, base).get(placement.pool, 0) + _seat(loaded, placement.offload)
    return Room(
        family=loaded.family.name,
        unet_width=loaded.unet.config.block_out_channels[0],
        vae_width=loaded.vae.config.block_out_channels[0],
        placement=placement,
        limit=None if total is None else total - taken,
    )


def footprint(loaded: Checkpoint, room: Room, *, base: int) -> Footprint:
    """Return what a loaded model holds, with what a picture of its family's usual size takes besides."""
    placement = room.placement
    side = int(PIXELS[loaded.family.name] ** 0.5)
    working = job_bytes(room.workload(Size(side, side), 2), tiles=False) + _seat(loaded, placement.offload)
    return Footprint(resident=_resident(loaded, placement, base), working={placement.pool: working})


def fitting_offload(loaded: Checkpoint, placement: Placement, *, limit: int = 0) -> Offload:
    """Return the memory mode in which a model just read fits on its device with a picture of its usual size."""
    free = available_bytes(placement.device)
    bounds = [bound for bound in (limit or None, free) if bound is not None]
    if not bounds or placement.device.type == "cpu":
        return "none"
    room = room_of(loaded, placement, base=0)
    side = int(PIXELS[loaded.family.name] ** 0.5)
    return choose_offload(weights_of(loaded), job_bytes(room.workload(Size(side, side), 2)), min(bounds))


def available_bytes(device: torch.device) -> int | None:
    """Return what is free on a device now, torch's own cache included; None where nobody tells."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return meminfo("MemAvailable", MEMINFO) if device.type == "cpu" else None


def total_bytes(device: torch.device) -> int | None:
    """Return the memory of a device, None where nobody tells."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    return meminfo("MemTotal", MEMINFO) if device.type == "cpu" else None


def weights_of(loaded: Checkpoint) -> tuple[int, ...]:
    """Return the bytes of UNet, VAE and text encoders."""
    return tuple(map(bytes_of, (loaded.unet, loaded.vae, *loaded.texts)))


def bytes_of(module: nn.Module) -> int:
    """Return the bytes of a module's tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in (*module.parameters(), *module.buffers()))


def _resident(loaded: Checkpoint, placement: Placement, base: int) -> dict[PoolId, int]:
    """Return what the model holds all the time.

    On the CPU weights may still lie in the mapped file, so the process as it stands now does not tell all.
    """
    weights = sum(weights_of(loaded))
    if placement.pool == RAM or placement.offload != "none":
        return {RAM: max(base + weights, process_bytes())}
    return {placement.pool: weights, RAM: max(base, process_bytes())}


def _seat(loaded: Checkpoint, offload: Offload) -> int:
    """Return what weights take beside the resident ones while they visit the device."""
    return 0 if offload == "none" else seated_bytes(weights_of(loaded), offload)
