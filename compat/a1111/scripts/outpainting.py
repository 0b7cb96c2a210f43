"""Outpainting mk2: a picture gets room on some of its sides, one after the other, filled with noise to paint on.

| picture 500x500, 128 pixels to | becomes |
|---|---|
| left | 640x500: sides grow to multiples of 64 |
| left and right | 570x500, then 640x500 |

The room is made anew by an ordinary inpainting of at most the request's size along the direction of growth.
"""

import base64
from math import ceil
from typing import Any, Literal

import msgspec

from compat.a1111 import wire
from compat.a1111.grids import rows_of
from compat.a1111.scripts.arguments import Arguments
from compat.a1111.scripts.sd_upscale import source
from compat.a1111.scripts.stage import Stage, told
from compat.a1111.workshop import Asked, Cell, Sheet
from server.core.image import Size
from server.core.pixels import BUILT_IN, GridRequest, GrowRequest, LayRequest, UpscaleRequest
from server.http.png import size_of

Side = Literal["left", "right", "up", "down"]
SIDES: tuple[Side, ...] = ("left", "right", "up", "down")

_INFO, PIXELS, BLUR, DIRECTIONS, DETAIL, COLOURS = range(6)
DEFAULTS = ("", 128, 8, list(SIDES), 1.0, 0.05)
CELL = 64
MOST_PIXELS, MOST_BLUR = 2048, 256
ORIGINAL = 1


class Noise(msgspec.Struct, frozen=True, kw_only=True):
    """The script's arguments about what fills the room."""

    blur: int
    detail: float
    colours: float


def rooms(width: int, height: int, pixels: int, directions: list[str]) -> dict[Side, int]:
    """Return the room on each side: it grows until the picture's sides are multiples of 64. Pure."""
    wanted = {side: pixels if side in directions else 0 for side in SIDES}
    left, right = _shared(width, wanted["left"], wanted["right"])
    up, down = _shared(height, wanted["up"], wanted["down"])
    return {"left": left, "right": right, "up": up, "down": down}


def _shared(length: int, first: int, second: int) -> tuple[int, int]:
    more = ceil((length + first + second) / CELL) * CELL - length
    if first > 0:
        first = first * more // (first + second)
    return first, more - first if second > 0 else 0


async def run(stage: Stage, request: Asked, arguments: Arguments) -> Sheet:
    """Make the larger pictures and, when there are several, their grid."""
    base, picture = source(request)
    noise = Noise(
        blur=arguments.integer(BLUR, 0, MOST_BLUR),
        detail=arguments.number(DETAIL, 0, 8),
        colours=arguments.number(COLOURS, 0, 1),
    )
    pixels = arguments.integer(PIXELS, 1, MOST_PIXELS)
    directions = arguments.choices(DIRECTIONS, SIDES)
    await stage.announce([msgspec.structs.replace(base, n_iter=1)])
    picture = await as_png(stage, picture)
    wanted = {side: room for side, room in rooms(*size_of(picture), pixels, directions).items() if room}
    results, count = base.n_iter or 1, base.batch_size or 1
    stage.run.total = results * len(wanted)
    first: Cell | None = None
    made: list[bytes] = []
    for number in range(results):
        files = [picture] * count
        for side, room in wanted.items():
            again = msgspec.structs.replace(base, n_iter=1, seed=(base.seed or 0) + number * count)
            cell, files = await _grown(stage, again, files, side, room, noise)
            first = first or cell
        made += files
        if stage.stopped:
            break
    if first is None:
        cell = await stage.cell(msgspec.structs.replace(base, n_iter=1), keep=False)
        return Sheet(files=[picture], info=cell.info())
    return await _sheet(stage, first, made)


async def as_png(stage: Stage, picture: bytes) -> bytes:
    """Return a picture of whatever kind as PNG."""
    (plain,) = await stage.pixels(UpscaleRequest(model=BUILT_IN, pictures=(picture,), factor=1.0, kernel="none"))
    return plain


async def _grown(
    stage: Stage, request: wire.Img2Img, files: list[bytes], side: Side, room: int, noise: Noise
) -> tuple[Cell, list[bytes]]:
    """Return the cell that painted the room, and the pictures with it; those not reached are left out."""
    reach = Size(request.width or 0, request.height or 0)
    wholes, parts, masks = [], [], (b"", b"")
    for file in files:
        work = GrowRequest(
            picture=file,
            side=side,
            pixels=room,
            reach=reach,
            blur=noise.blur,
            detail=noise.detail,
            colour_variation=noise.colours,
        )
        whole, part, mask, for_latents = await stage.pixels(work, quiet=True)
        wholes.append(whole)
        parts.append(part)
        masks = mask, for_latents
    cell = await stage.cell(_asked(request, parts, masks[0], side, noise.blur), keep=False, latent_mask=masks[1])
    width, height = size_of(files[0])
    size = Size(width + room, height) if side in ("left", "right") else Size(width, height + room)
    laid = []
    for whole, painted in zip(wholes, cell.finished.pictures, strict=False):
        across, down = size_of(whole)
        left = 0 if side == "left" else across - painted.width
        top = 0 if side == "up" else down - painted.height
        work_back = LayRequest(under=whole, picture=painted.data, left=left, top=top, size=size)
        laid += await stage.pixels(work_back, quiet=True)
    return cell, laid


def _asked(request: wire.Img2Img, parts: list[bytes], mask: bytes, side: Side, blur: int) -> wire.Img2Img:
    """Return the inpainting of parts of one size. Pure."""
    width, height = size_of(parts[0])
    across = side in ("left", "right")
    changes: dict[str, Any] = {
        "init_images": [base64.b64encode(part).decode("ascii") for part in parts],
        "mask": base64.b64encode(mask).decode("ascii"),
        "mask_blur": None,
        "mask_blur_x": 4 * blur if across else 0,
        "mask_blur_y": 0 if across else 4 * blur,
        "inpainting_fill": ORIGINAL,
        "inpaint_full_res": False,
        "inpainting_mask_invert": 0,
        "batch_size": len(parts),
        "width": width,
        "height": height,
    }
    return msgspec.structs.replace(request, **changes)


async def _sheet(stage: Stage, first: Cell, made: list[bytes]) -> Sheet:
    files = [told(first, file) for file in made]
    await stage.keep(first, files)
    info = first.info() | {"infotexts": first.texts[:1] * max(len(files), 1)}
    options = first.planned.plan.options
    if not files or (len(files) < 2 and options.flag("grid_only_if_multiple")) or stage.stopped:
        return Sheet(files=files, info=info)
    rows = rows_of(options, len(files), first.planned.plan.work.batch_size)
    grid = await stage.grid(GridRequest(pictures=tuple(files), columns=-(-len(files) // rows)), first, first.texts[0])
    await stage.keep_grid(first, grid)
    if not options.flag("return_grid"):
        return Sheet(files=files, info=info)
    info |= {"index_of_first_image": 1, "infotexts": [first.texts[0], *info["infotexts"]]}
    return Sheet(files=[grid, *files], info=info)
