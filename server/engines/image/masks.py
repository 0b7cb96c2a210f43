"""What a mask file says, the region it marks, and pixels under it.

A mask is mode L, 255 where the picture is made anew.
"""

import numpy as np
import torch
from PIL import Image, ImageFilter, ImageOps

from server.core.image import Inpaint, Size
from server.engines.image.mask_blur import blurred
from server.engines.image.resizing import Place

HALF_OPAQUE = 128

SMEARS = ((256, 1), (64, 1), (16, 2), (4, 4), (2, 2), (0, 1))
"""Blur radii, and how often each blurred layer is laid on top, with which surroundings are smeared into a hole."""


def mask_of(image: Image.Image, asked: Inpaint) -> Image.Image:
    """Return the mask of a decoded picture: its transparency if it has any, else its brightness; inverted, blurred."""
    mask = shades_of(image, rounded=asked.rounded)
    if asked.invert:
        mask = ImageOps.invert(mask)
    return blurred(mask, asked.blur_x, asked.blur_y)


def shades_of(image: Image.Image, *, rounded: bool) -> Image.Image:
    """Return the mask in an image: alpha, all or nothing when `rounded`; brightness where nothing is transparent."""
    if image.mode != "RGBA" or image.getchannel("A").getextrema() == (255, 255):
        return image.convert("L")
    alpha = image.getchannel("A")
    return alpha.point(lambda value: 255 if value > HALF_OPAQUE else 0) if rounded else alpha


def doubled(mask: Image.Image) -> Image.Image:
    """Return the mask twice as bright: half and more is all."""
    return Image.fromarray(np.clip(np.asarray(mask.convert("L"), dtype=np.int32) * 2, 0, 255).astype(np.uint8))


def region_of(mask: Image.Image, padding: int, shape: Size) -> Place | None:
    """Return the region that holds all of the mask and `padding` around it, in the shape of `shape`; None for black.

    The short side grows to the wanted ratio, half on each side, and is then moved back into the picture.
    """
    box = mask.getbbox()
    if box is None:
        return None
    left, top = max(box[0] - padding, 0), max(box[1] - padding, 0)
    right, bottom = min(box[2] + padding, mask.width), min(box[3] + padding, mask.height)
    wanted = shape.width / shape.height
    if (right - left) / (bottom - top) > wanted:
        top, bottom = _grown(top, bottom, (right - left) / wanted, mask.height)
    else:
        left, right = _grown(left, right, (bottom - top) * wanted, mask.width)
    return Place(left, top, right - left, bottom - top)


def _grown(start: int, end: int, wanted: float, limit: int) -> tuple[int, int]:
    more = int(wanted - (end - start))
    start -= more // 2
    end += more - more // 2
    if end >= limit:
        start, end = start - (end - limit), limit
    if start < 0:
        start, end = 0, end - start
    return start, min(end, limit)


def cut(image: Image.Image, place: Place) -> Image.Image:
    """Return that part of the image; black beyond its edges."""
    return image.crop((place.x, place.y, place.x + place.width, place.y + place.height))


def holed(image: Image.Image, mask: Image.Image) -> Image.Image:
    """Return the image as RGBA, transparent by as much as the mask is white there."""
    return _premultiplied(image, mask).convert("RGBA")


def smeared(image: Image.Image, mask: Image.Image) -> Image.Image:
    """Return the RGB image with colours from around the mask blurred into it."""
    around = _premultiplied(image, mask)
    filled = Image.new("RGBA", image.size)
    for radius, times in SMEARS:
        layer = around.filter(ImageFilter.GaussianBlur(radius)).convert("RGBA")
        for _ in range(times):
            filled.alpha_composite(layer)
    return filled.convert("RGB")


def latent_mask(mask: Image.Image, height: int, width: int, *, rounded: bool) -> torch.Tensor:
    """Return the mask for latents, [height, width] float32, 1 = made anew."""
    small = mask.convert("RGB").resize((width, height), Image.Resampling.BICUBIC).getchannel(0)
    shades = np.asarray(small, dtype=np.float32) / 255
    return torch.from_numpy(np.around(shades) if rounded else shades)


def _premultiplied(image: Image.Image, mask: Image.Image) -> Image.Image:
    canvas = Image.new("RGBa", image.size)
    canvas.paste(image.convert("RGBA").convert("RGBa"), mask=ImageOps.invert(mask.convert("L")))
    return canvas
