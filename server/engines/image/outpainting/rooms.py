"""Requests for room around a picture, and for laying a picture back."""

import math

import numpy as np
from PIL import Image, ImageDraw

from server.core.errors import InvalidValue
from server.core.pixels import FrameRequest, GrowRequest, LayRequest
from server.engines.image.outpainting.matched_noise import matched
from server.engines.image.upscaling.job import check_size
from server.engines.input_pictures import decoded, flattened

CELL = 64
WHITE = (255, 255, 255)

MOST_ROOM = 4096
"""Pixels at one side."""

MOST_BLUR = 1024
MOST_CANVAS = 6 * 1024 * 1024
"""Pixels of a canvas whose noise is matched: spectra take 16 bytes for each, several at a time."""

MOST_FRAME = 64 * 1024 * 1024
LARGEST_EXPONENT = 8.0

Box = tuple[int, int, int, int]


def check(work: GrowRequest | FrameRequest | LayRequest) -> None:
    """Raise InvalidValue for a request that no pictures can make right."""
    match work:
        case GrowRequest():
            check_size(work.reach)
            _check_room(work.pixels, work.blur)
            if not (0 <= work.detail <= LARGEST_EXPONENT and 0 <= work.colour_variation <= 1):
                raise InvalidValue.of("detail", "the exponent is 0 ... 8, the variation of colours 0 ... 1")
        case FrameRequest():
            for room in (work.left, work.right, work.up, work.down):
                _check_room(room, work.blur)
        case LayRequest():
            check_size(work.size)


def images_of(work: GrowRequest | FrameRequest | LayRequest) -> list[Image.Image]:
    """Return the pictures.

    Raises:
        BadImage: a file is no picture.
        InvalidValue: the canvas would be too large.
    """
    match work:
        case GrowRequest():
            return _grown(work)
        case FrameRequest():
            return _framed(work)
        case LayRequest():
            return [_laid(work)]


def _check_room(room: int, blur: int) -> None:
    if not 0 <= room <= MOST_ROOM or not 0 <= blur <= MOST_BLUR:
        raise InvalidValue.of("pixels", f"room is 0 ... {MOST_ROOM} pixels, blur 0 ... {MOST_BLUR}")


def _grown(work: GrowRequest) -> list[Image.Image]:
    image = flattened(decoded(work.picture, "picture"), WHITE)
    across, down = work.side in ("left", "right"), work.side in ("up", "down")
    left, top = work.side == "left", work.side == "up"
    width, height = image.width + work.pixels * across, image.height + work.pixels * down
    canvas = math.ceil(width / CELL) * CELL, math.ceil(height / CELL) * CELL
    if canvas[0] * canvas[1] > MOST_CANVAS:
        raise _too_large(*canvas)
    whole = Image.new("RGB", canvas)
    whole.paste(image, (work.pixels * left, work.pixels * top))
    mask = _around(canvas, _kept(work, work.blur, canvas, (width, height)))
    values = matched(
        np.asarray(whole, dtype=np.float64) / 255,
        np.asarray(mask, dtype=np.float64) / 255,
        work.detail,
        work.colour_variation,
    )
    whole = Image.fromarray((values * 255).astype(np.uint8))
    part = min(work.reach.width, width) if across else canvas[0], min(work.reach.height, height) if down else canvas[1]
    x, y = 0 if left else canvas[0] - part[0], 0 if top else canvas[1] - part[1]
    box = x, y, x + part[0], y + part[1]
    for_latents = _around(part, _kept(work, 2 * work.blur, part, (width, height)))
    return [whole, whole.crop(box), mask.crop(box).convert("RGB"), for_latents.convert("RGB")]


def _kept(work: GrowRequest, blur: int, canvas: tuple[int, int], size: tuple[int, int]) -> Box:
    """Return the corners of what stays as it is, both of them inside."""
    return (
        work.pixels + blur if work.side == "left" else 0,
        work.pixels + blur if work.side == "up" else 0,
        canvas[0] - work.pixels - blur if work.side == "right" else size[0],
        canvas[1] - work.pixels - blur if work.side == "down" else size[1],
    )


def _framed(work: FrameRequest) -> list[Image.Image]:
    image = flattened(decoded(work.picture, "picture"), WHITE)
    size = image.width + work.left + work.right, image.height + work.up + work.down
    if size[0] * size[1] > MOST_FRAME:
        raise _too_large(*size)
    canvas = Image.new("RGB", size)
    canvas.paste(image, (work.left, work.up))
    masks = [_around(size, _inner(work, reach, size)) for reach in (2 * work.blur, work.blur // 2)]
    return [canvas, *(mask.convert("RGB") for mask in masks)]


def _inner(work: FrameRequest, reach: int, size: tuple[int, int]) -> Box:
    """Return the corners of what stays as it is, `reach` pixels inside the picture where there is room beside it."""
    return (
        work.left + (reach if work.left else 0),
        work.up + (reach if work.up else 0),
        size[0] - work.right - (reach if work.right else 0),
        size[1] - work.down - (reach if work.down else 0),
    )


def _around(size: tuple[int, int], box: Box) -> Image.Image:
    """Return a white mask with a black box; nothing is black where the box is turned inside out."""
    mask = Image.new("L", size, 255)
    if box[0] <= box[2] and box[1] <= box[3]:
        ImageDraw.Draw(mask).rectangle(box, fill=0)
    return mask


def _laid(work: LayRequest) -> Image.Image:
    under = decoded(work.under, "under").convert("RGB")
    under.paste(decoded(work.picture, "picture").convert("RGB"), (work.left, work.top))
    return under.crop((0, 0, work.size.width, work.size.height))


def _too_large(width: int, height: int) -> InvalidValue:
    return InvalidValue.of("picture", f"a canvas of {width}x{height} pixels is larger than what is made here")
