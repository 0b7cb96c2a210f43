"""Poor man's outpainting: a picture on a larger canvas, whose tiles with room in them are made anew and joined.

The canvas's sides are multiples of 64; tiles are of the request's size and overlap by as much as the picture grows.
"""

import base64
from collections.abc import Mapping
from math import ceil
from typing import Any

import msgspec

from compat.a1111 import wire
from compat.a1111.scripts.arguments import Arguments
from compat.a1111.scripts.outpainting import MOST_BLUR, MOST_PIXELS, SIDES, Side, as_png, rooms
from compat.a1111.scripts.sd_upscale import source
from compat.a1111.scripts.stage import Stage, told
from compat.a1111.workshop import Asked, Cell, Sheet
from server.core.errors import InvalidValue
from server.core.image import Size
from server.core.pixels import FrameRequest, JoinRequest, SplitRequest
from server.http.png import size_of

PIXELS, BLUR, CONTENT, DIRECTIONS = range(4)
DEFAULTS = (128, 4, "fill", list(SIDES))
CONTENTS = ("fill", "original", "latent noise", "latent nothing")


def open_tiles(size: Size, room: Mapping[Side, int], tile: Size, overlap: int) -> list[bool]:
    """Return for each tile, row after row, whether there is room in it. Pure."""
    xs, ys = starts(size.width, tile.width, overlap), starts(size.height, tile.height, overlap)
    width, height = min(tile.width, size.width), min(tile.height, size.height)
    inside_x = [x >= room["left"] and x + width <= size.width - room["right"] for x in xs]
    inside_y = [y >= room["up"] and y + height <= size.height - room["down"] for y in ys]
    return [not (across and down) for down in inside_y for across in inside_x]


def starts(side: int, tile: int, overlap: int) -> list[int]:
    """Return where tiles begin that are spread evenly, as the worker cuts them. Pure."""
    if side <= tile:
        return [0]
    count = ceil((side - overlap) / (tile - overlap))
    step = (side - tile) / (count - 1)
    return [min(int(number * step), side - tile) for number in range(count)]


async def run(stage: Stage, request: Asked, arguments: Arguments) -> Sheet:
    """Make the larger picture."""
    base, picture = source(request)
    pixels, blur = arguments.integer(PIXELS, 1, MOST_PIXELS), arguments.integer(BLUR, 0, MOST_BLUR)
    tile = Size(base.width or 0, base.height or 0)
    if pixels >= min(tile.width, tile.height):
        raise InvalidValue.of("script_args", f"tiles of {tile.width}x{tile.height} cannot overlap by {pixels}")
    single = msgspec.structs.replace(
        base,
        n_iter=1,
        batch_size=1,
        mask_blur=2 * blur,
        inpaint_full_res=False,
        inpainting_mask_invert=0,
        inpainting_fill=arguments.index(CONTENT, CONTENTS),
    )
    await stage.announce([single])
    picture = await as_png(stage, picture)
    room = rooms(*size_of(picture), pixels, arguments.choices(DIRECTIONS, SIDES))
    left, right, up, down = (room[side] for side in SIDES)
    frame = FrameRequest(picture=picture, blur=blur, left=left, right=right, up=up, down=down)
    canvas, *masks = await stage.pixels(frame, quiet=True)
    size = Size(*size_of(canvas))
    tiles, tile_masks, for_latents = [
        await stage.pixels(SplitRequest(picture=file, tile=tile, overlap=pixels), quiet=True)
        for file in (canvas, *masks)
    ]
    wanted = [place for place, is_open in enumerate(open_tiles(size, room, tile, pixels)) if is_open]
    stage.run.total = max(len(wanted), 1)
    first: Cell | None = None
    for number, place in enumerate(wanted):
        if first is not None and stage.stopped:
            break
        asked = _asked(single, tiles[place], tile_masks[place], number)
        cell = await stage.cell(asked, keep=False, latent_mask=for_latents[place])
        first = first or cell
        if cell.finished.pictures:
            tiles[place] = cell.finished.pictures[0].data
    if first is None:  # no direction was chosen, and the picture's sides are multiples of 64
        first = await stage.cell(single, keep=False)
    work = JoinRequest(pictures=tuple(tiles), size=size, tile=tile, overlap=pixels)
    (joined,) = await stage.pixels(work, quiet=True)
    result = told(first, joined)
    await stage.keep(first, [result])
    return Sheet(files=[result], info=first.info() | {"infotexts": first.texts[:1]})


def _asked(request: wire.Img2Img, tile: bytes, mask: bytes, number: int) -> wire.Img2Img:
    changes: dict[str, Any] = {
        "init_images": [base64.b64encode(tile).decode("ascii")],
        "mask": base64.b64encode(mask).decode("ascii"),
        "seed": (request.seed or 0) + number,
    }
    return msgspec.structs.replace(request, **changes)
