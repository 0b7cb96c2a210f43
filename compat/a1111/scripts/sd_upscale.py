"""SD upscale: a picture is enlarged, cut into tiles of the request's size, and each tile is made anew.

The tiles overlap; they are joined with seams that blend. `batch_size` tiles are made at once, `n_iter` results in all.
"""

import base64
from typing import Any

import msgspec

from compat.a1111 import encoded, wire
from compat.a1111.refusals import Refused
from compat.a1111.scripts.arguments import Arguments
from compat.a1111.scripts.stage import Stage, seeded, told
from compat.a1111.upscalers import Upscaler, find
from compat.a1111.workshop import Asked, Cell, Sheet
from server.core.errors import InvalidValue
from server.core.image import Size
from server.core.pixels import JoinRequest, SplitRequest, UpscaleRequest
from server.http.png import size_of

_INFO, OVERLAP, UPSCALER, FACTOR = range(4)
DEFAULTS = ("", 64, "None", 2.0)
LARGEST_FACTOR = 16.0


async def run(stage: Stage, request: Asked, arguments: Arguments) -> Sheet:
    """Make the enlarged pictures."""
    base, picture = source(request)
    known = stage.workshop.upscalers()
    upscaler = known[_chosen(arguments, known)]
    overlap = arguments.integer(OVERLAP, 0, 2048)
    tile = Size(base.width or 0, base.height or 0)
    if overlap >= min(tile.width, tile.height):
        raise InvalidValue.of("script_args", f"tiles of {tile.width}x{tile.height} cannot overlap by {overlap}")
    more = {"SD upscale overlap": overlap, "SD upscale upscaler": upscaler.name}
    big = await _enlarged(stage, upscaler, picture, arguments.number(FACTOR, 0.05, LARGEST_FACTOR))
    tiles = await stage.pixels(SplitRequest(picture=big, tile=tile, overlap=overlap))
    results, results_wanted = [], base.n_iter or 1
    batches = batches_of(base, tiles)
    await stage.announce([one for _ in range(results_wanted) for one in batches])
    first: Cell | None = None
    for number in range(results_wanted):
        cells = await _remade(stage, batches, (base.seed or 0) + number, more)
        first = first or cells[0]
        made = [file for cell in cells for file in cell.files]
        if len(made) < len(tiles):
            break
        (joined,) = await stage.pixels(
            JoinRequest(pictures=tuple(made), size=Size(*size_of(big)), tile=tile, overlap=overlap)
        )
        results.append(told(cells[0], joined))
        await stage.keep(cells[0], results[-1:])
    assert first is not None
    return Sheet(files=results, info=_info(first, len(results)))


def source(request: Asked) -> tuple[wire.Img2Img, bytes]:
    """Return the request with its seeds drawn, and its init picture; raise Refused for a request without."""
    if not isinstance(request, wire.Img2Img) or not request.init_images:
        raise Refused.http("Init image not found", status=404)
    fixed = seeded(request)
    assert isinstance(fixed, wire.Img2Img)
    return fixed, encoded.picture(request.init_images[0])


def batches_of(request: wire.Img2Img, tiles: list[bytes]) -> list[wire.Img2Img]:
    """Return the requests that make all tiles anew, the seed of each one higher. Pure."""
    at_once = max(request.batch_size or 1, 1)
    found = []
    for number, begin in enumerate(range(0, len(tiles), at_once)):
        texts = [base64.b64encode(tile).decode("ascii") for tile in tiles[begin : begin + at_once]]
        changes: dict[str, Any] = {"init_images": texts, "batch_size": len(texts), "n_iter": 1}
        found.append(msgspec.structs.replace(request, **changes, seed=(request.seed or 0) + number))
    return found


async def _remade(stage: Stage, batches: list[wire.Img2Img], seed: int, more: dict[str, Any]) -> list[Cell]:
    cells: list[Cell] = []
    for number, batch in enumerate(batches):
        if stage.stopped and cells:
            break
        cells.append(await stage.cell(msgspec.structs.replace(batch, seed=seed + number), more, keep=False))
    return cells


async def _enlarged(stage: Stage, upscaler: Upscaler, picture: bytes, factor: float) -> bytes:
    options = stage.workshop.options()
    tile, overlap = upscaler.tiles(options)
    work = UpscaleRequest(
        model=upscaler.model,
        pictures=(picture,),
        factor=factor,
        kernel=upscaler.kernel,
        tile=tile,
        overlap=overlap,
    )
    (big,) = await stage.pixels(work)
    return big


def _chosen(arguments: Arguments, known: tuple[Upscaler, ...]) -> int:
    names = [one.name for one in known]
    try:
        return arguments.index(UPSCALER, names)
    except InvalidValue:
        by_file = find(arguments.text(UPSCALER), known)
        if by_file is None:
            raise
        return known.index(by_file)


def _info(first: Cell, count: int) -> dict[str, Any]:
    return first.info() | {"infotexts": first.texts[:1] * max(count, 1)}
