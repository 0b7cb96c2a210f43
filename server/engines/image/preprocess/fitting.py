"""A map to the size of the latents, as the maps of edges, areas and pictures need it.

| map | is resized |
|---|---|
| of 3 ... 199 colours | to the nearest value: areas keep their colours |
| of black and white | as a picture, then parted at the level that fits; lines of one pixel are thinned to one again |
| other | by area when it shrinks, cubic when it grows |
"""

import numpy as np

from server.core.image import ControlFit
from server.engines.image.preprocess import thinning
from server.engines.image.preprocess.resampling import Kernel, Pixels, resized, scaled_sides

FEW_COLOURS = 200
NEARLY_BLACK, NEARLY_WHITE = 16, 240


def fitted(pixels: Pixels, width: int, height: int, fit: ControlFit) -> Pixels:
    """Return the map at a size.

    `stretch` without regard to shape; `crop` so that it covers the size, cut on both sides; `fill` so that it fits
    inside, on the median colour of its border (what a fourth channel leaves open is open there).

    Raises:
        BadImage: it is so thin that it would become too large on the way.
    """
    old_height, old_width = pixels.shape[:2]
    if fit == "stretch":
        return _scaled(pixels, width, height)
    choose = max if fit == "crop" else min
    scale = choose(height / old_height, width / old_width)
    inner = _scaled(pixels, *scaled_sides(old_width, old_height, scale))
    if fit == "crop":
        top, left = max((inner.shape[0] - height) // 2, 0), max((inner.shape[1] - width) // 2, 0)
        return np.ascontiguousarray(inner[top : top + height, left : left + width])
    canvas = np.empty((height, width, pixels.shape[2]), dtype=np.uint8)
    canvas[:] = _border_colour(pixels)
    inner = inner[:height, :width]
    top, left = (height - inner.shape[0]) // 2, (width - inner.shape[1]) // 2
    canvas[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
    return canvas


def perfect_resolution(width: int, height: int, wanted: tuple[int, int], fit: ControlFit) -> int:
    """Return the short side at which a picture's map will need no resizing for a size (width, height)."""
    scales = wanted[1] / height, wanted[0] / width
    return round((min if fit == "fill" else max)(scales) * min(width, height))


def _border_colour(pixels: Pixels) -> Pixels:
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    colour = np.median(edge, axis=0).astype(np.uint8)
    if len(colour) == 4:
        colour[3] = 255
    return colour


def _scaled(pixels: Pixels, width: int, height: int) -> Pixels:
    colours, mask = pixels[:, :, :3], pixels[:, :, 3:]
    count = _colours(colours)
    kernel = _kernel(count, width * height < pixels.shape[0] * pixels.shape[1])
    made = resized(colours, width, height, kernel)
    if count == 2 and colours.min() < NEARLY_BLACK and colours.max() > NEARLY_WHITE:
        grows = width * height > pixels.shape[0] * pixels.shape[1]
        made = _black_and_white(made, is_thin=thinning.is_thin(colours.max(axis=2)), grows=grows)
    if mask.shape[2]:
        open_ = np.where(resized(mask, width, height, kernel) > 127, 255, 0).astype(np.uint8)
        made = np.concatenate([made, open_], axis=2)
    return made


def _kernel(colours: int, shrinks: bool) -> Kernel:
    if 2 < colours < FEW_COLOURS:
        return "nearest"
    return "area" if shrinks else "cubic"


def _colours(pixels: Pixels) -> int:
    """Return how many colours there are, FEW_COLOURS for that many and more."""
    values = pixels.astype(np.uint32)
    codes = values[:, :, 0] << 16 | values[:, :, 1] << 8 | values[:, :, 2]
    return min(len(np.unique(codes)), FEW_COLOURS)


def _black_and_white(pixels: Pixels, *, is_thin: bool, grows: bool) -> Pixels:
    plane = pixels.mean(axis=2, dtype=np.float32).astype(np.uint8)
    parted = thinning.split(thinning.ridges(plane) if is_thin else plane)
    plane = thinning.thinned(parted, prune=grows) if is_thin else parted
    return np.repeat(plane[:, :, None], 3, axis=2)
