"""What a loaded pipeline holds, and whether a job fits beside it."""

from dataclasses import dataclass

from server.core.errors import DoesNotFit
from server.core.image import ImageRequest, Size
from server.core.image_memory import (
    LARGE_PIXELS,
    VAE_WIDTH,
    Offload,
    Workload,
    choose_offload,
    decode_bytes,
    job_bytes,
    seated_bytes,
)
from server.core.memory import RAM, Footprint, readable
from server.engines.image.headroom import available_bytes, total_bytes
from server.engines.image.placement import Placement
from server.engines.meminfo import process_bytes

USUAL = Size(1024, 1024)


@dataclass(frozen=True, kw_only=True)
class PipelineRoom:
    """What one loaded pipeline needs to know about memory.

    `weights` are the bytes of the largest part, of the VAE and of all others; `width` and `vae_width` channels; `rows`
    of a call for each picture. `limit` are the bytes that a job may take besides what is held all the time.
    """

    placement: Placement
    weights: tuple[int, ...]
    width: int
    vae_width: int = VAE_WIDTH
    rows: int = 2
    base: int = 0
    limit: int | None = None

    def workload(self, size: Size, pictures: int = 1) -> Workload:
        """Return a pass at this size as the estimate wants it."""
        precision = self.placement.precision
        return Workload(
            family="",
            pixels=size.width * size.height,
            rows=self.rows * pictures,
            unet_bytes=precision.model.itemsize,
            vae_bytes=precision.vae.itemsize,
            vae_width=self.vae_width,
            on_cpu=self.placement.device.type == "cpu",
            token_width=self.width,
        )

    def check(self, request: ImageRequest, *, now: bool) -> None:
        """Raise DoesNotFit when a job needs more than it may ever take, or (`now`) more than is free."""
        encodes = request.init is not None or request.hires is not None
        sizes = [request.size] if request.hires is None else [request.size, request.hires.size]
        needed = max(job_bytes(self.workload(size, request.batch_size), encodes=encodes) for size in sizes)
        free = available_bytes(self.placement.device) if now else None
        limit = min((bound for bound in (self.limit, free) if bound is not None), default=None)
        if limit is not None and needed > limit:
            pool = self.placement.pool
            raise DoesNotFit(
                f"this request needs about {readable(needed)} of {pool} to work in, {readable(max(limit, 0))} are "
                "there; ask for a smaller size or batch",
                pool=pool,
                needed=needed,
                limit=max(limit, 0),
            )

    def has_whole_decode(self, size: Size) -> bool:
        """Tell whether a picture of that size can be decoded in one piece now."""
        bounds = [bound for bound in (self.limit, available_bytes(self.placement.device)) if bound is not None]
        return not bounds or decode_bytes(self.workload(size)) <= min(bounds)

    def footprint(self) -> Footprint:
        """Return what the pipeline holds, with what a picture of the usual size takes besides."""
        working = job_bytes(self.workload(USUAL), tiles=False) + self._seat()
        held = sum(self.weights)
        if self.placement.pool == RAM or self.placement.offload != "none":
            resident = {RAM: max(self.base + held, process_bytes())}
        else:
            resident = {self.placement.pool: held, RAM: max(self.base, process_bytes())}
        return Footprint(resident=resident, working={self.placement.pool: working})

    def limited(self, limit: int) -> int | None:
        """Return what a job may take where the pipeline runs: `limit` bytes in all, 0 = what the device has."""
        total = limit or total_bytes(self.placement.device)
        taken = self.footprint().resident.get(self.placement.pool, 0) + self._seat()
        return None if total is None else total - taken

    def fitting_offload(self, limit: int) -> Offload:
        """Return the memory mode in which the pipeline fits on its device with a usual picture."""
        bounds = [bound for bound in (limit or None, available_bytes(self.placement.device)) if bound is not None]
        if not bounds or self.placement.device.type == "cpu":
            return "none"
        work = self.workload(Size(int(LARGE_PIXELS**0.5), int(LARGE_PIXELS**0.5)))
        return choose_offload(self.weights, job_bytes(work), min(bounds))

    def _seat(self) -> int:
        offload = self.placement.offload
        return 0 if offload == "none" else seated_bytes(self.weights, offload)
