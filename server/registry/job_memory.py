"""What a job of pictures takes beside its loaded model: estimated from what is asked, as measured once it was done.

The estimate is that of the model's usual picture (its footprint's working bytes, mostly measured) and the difference
that size, batch, second pass, control units, further checkpoints and upscalers make. Sizes of files stand for weights.
"""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from server.core.image import ControlUnit, ImageRequest, Size
from server.core.image_memory import CELL_PIXELS, SMALLEST, Workload, decode_bytes, denoise_bytes, job_bytes
from server.core.memory import MIB, Footprint, PoolId

CONTROL_SHARE = 0.5
"""Activations of a ControlNet beside those of its UNet: it has the way down and the middle, no way up."""

UPSCALING = 512 * MIB
"""Activations of one tile of an upscaler, and the picture before and after as floats."""

SizeOf = Callable[[str], int]
"""Returns the bytes of a file, 0 when it is not there."""


def size_on_disk(file: str) -> int:
    """Return the bytes of a file, 0 when it is not there."""
    try:
        return Path(file).stat().st_size
    except OSError:
        return 0


def estimated(
    request: ImageRequest,
    footprint: Footprint,
    usual: Workload,
    pool: PoolId,
    *,
    other_vae: int = 0,
    limit: int | None = None,
    size_of: SizeOf = size_on_disk,
) -> dict[PoolId, int]:
    """Return the bytes per pool that a request takes while it runs; `usual` is computed in `pool`. Pure but for files.

    `other_vae` are the bytes of a VAE that the request names in place of the model's own. `limit` are those that the
    pool has beside the model, None = not limited: decodes that do not fit in there are made in tiles. `size_of` tells
    the sizes of files that the request names.
    """
    working = footprint.working.get(pool, 0)
    more = _activations(request, usual, limit) - job_bytes(usual, tiles=False)
    weights = sum(map(size_of, _files(request))) + other_vae
    return {**footprint.working, pool: max(SMALLEST, working + more) + weights}


def shape_of(request: ImageRequest) -> str:
    """Return a short name of all that decides how much memory a request takes; texts, seeds and steps do not."""
    hires = request.hires
    facts = (
        _sides(request.size),
        request.batch_size,
        _sides(hires.size) if hires else None,
        hires.upscaler if hires else None,
        request.init is not None,
        len(request.adapters) > 0,
        request.vae,
        sorted(_files(request)),
        [(unit.preprocessing.module, unit.preprocessing.resolution) for unit in request.control],
    )
    return hashlib.blake2b(msgspec.json.encode(facts), digest_size=8).hexdigest()


def _activations(request: ImageRequest, usual: Workload, limit: int | None) -> int:
    first = _pass_bytes(request.size, request, usual, "second", limit, encodes=request.init is not None)
    if request.hires is None:
        return first
    second = _pass_bytes(request.hires.size, request, usual, "first", limit, encodes=True)
    return max(first, second + (UPSCALING if request.hires.upscaler_file else 0))


def _pass_bytes(
    size: Size, request: ImageRequest, usual: Workload, other: str, limit: int | None, *, encodes: bool
) -> int:
    """Return what one pass takes; units that act only in the `other` pass take no part."""
    width, height = _sides(size)
    work = msgspec.structs.replace(usual, pixels=width * height * CELL_PIXELS, rows=2 * request.batch_size)
    acting = sum(unit.passes != other for unit in request.control)
    tiles = limit is not None and decode_bytes(work) > limit
    return job_bytes(work, encodes=encodes, tiles=tiles) + (int(CONTROL_SHARE * denoise_bytes(work)) if acting else 0)


def _files(request: ImageRequest) -> set[str]:
    """Return the files whose weights are loaded for a request, each once."""
    hires = request.hires
    found: list[str | None] = [file for unit in request.control for file in _unit_files(unit)]
    found += [request.refiner.checkpoint.path if request.refiner else None]
    if hires is not None:
        found += [hires.checkpoint.path if hires.checkpoint else None]
        found += [hires.upscaler_file.path if hires.upscaler_file else None]
    return {file for file in found if file}


def _unit_files(unit: ControlUnit) -> Iterable[str]:
    return (unit.path, *unit.encoders)


def _sides(size: Size) -> tuple[int, int]:
    """Return the sides in latent cells."""
    return size.width // 8, size.height // 8
