"""The preprocessing modules by their ids.

| module | `resolution` | threshold a | threshold b |
|---|---|---|---|
| `none` | | | |
| `picture` | | | |
| `invert` | | | |
| `canny` | short side | low, of 1 ... 255 | high, of 1 ... 255 |
| `threshold` | short side | level | |
| `scribble_xdog` | short side | strength of strokes | |
| `lineart_standard` | short side | | |
| `softedge_plain` | short side | | |
| `color` | short side | | |
| `blur_gaussian` | short side | deviation in pixels | |
| `shuffle` | short side | | |
| `tile_resample` | | times smaller; up to 1.1 nothing | |
| `recolor_luminance`, `recolor_intensity` | | gamma | |
| `inpaint`, `inpaint_only` | | need a mask, which becomes the fourth channel | |
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from server.core.errors import InvalidValue
from server.core.image import Preprocessing
from server.engines.image.preprocess import colours, lines, shuffling
from server.engines.image.preprocess.canny import canny
from server.engines.image.preprocess.resampling import Pixels, resized, rounded, to_short_side
from server.engines.image.preprocess.smoothing import gaussian

INPAINTING = ("inpaint", "inpaint_only")
"""Modules whose map keeps the mask."""

PICTURE = "picture"
"""The module of models whose pictures an image encoder looks at: it makes no map."""

OWN_SIZE = ("none", PICTURE, "invert", "tile_resample", "recolor_luminance", "recolor_intensity", *INPAINTING)
"""Modules that leave a picture at its size, or make their own of it."""

SMALLEST, LARGEST = 1, 4096
"""Bounds of the resolution."""

LARGEST_DEVIATION = 256.0
LEAST_TILE = 1.1
SQUARE = 64

Module = Callable[[Pixels, Preprocessing], Pixels]
"""Draws the map of a picture of one size."""


def _as_it_is(pixels: Pixels, _: Preprocessing) -> Pixels:
    return pixels


def _edges(pixels: Pixels, asked: Preprocessing) -> Pixels:
    padded = _to_whole_cells(pixels)
    found = canny(padded, asked.threshold_a, asked.threshold_b)
    return np.repeat(found[: pixels.shape[0], : pixels.shape[1], None], 3, axis=2)


def _to_whole_cells(pixels: Pixels) -> Pixels:
    """Repeat the last row and column up to multiples of 64, as the modules of the original find pictures."""
    height, width = pixels.shape[:2]
    return np.pad(pixels, ((0, -height % 64), (0, -width % 64), (0, 0)), mode="edge")


def _padded(draw: Module) -> Module:
    def run(pixels: Pixels, asked: Preprocessing) -> Pixels:
        return draw(_to_whole_cells(pixels), asked)[: pixels.shape[0], : pixels.shape[1]]

    return run


def _smaller(pixels: Pixels, asked: Preprocessing) -> Pixels:
    if asked.threshold_a < LEAST_TILE:
        return pixels
    height, width = pixels.shape[:2]
    return resized(pixels, max(int(width / asked.threshold_a), 1), max(int(height / asked.threshold_a), 1), "area")


def _in_squares(pixels: Pixels, _: Preprocessing) -> Pixels:
    """Return the picture in squares of one colour each, as adapters for colours were trained on."""
    height, width = pixels.shape[:2]
    small = resized(pixels, max(width // SQUARE, 1), max(height // SQUARE, 1), "cubic")
    return resized(small, width, height, "nearest")


def _blurred(pixels: Pixels, asked: Preprocessing) -> Pixels:
    return rounded(gaussian(pixels, asked.threshold_a)) if asked.threshold_a > 0 else pixels


MODULES: Mapping[str, Module] = MappingProxyType(
    {
        "none": _as_it_is,
        PICTURE: _as_it_is,
        "invert": lambda pixels, _: lines.inverted(pixels),
        "canny": _edges,
        "threshold": lambda pixels, asked: lines.binarised(pixels, asked.threshold_a),
        "scribble_xdog": _padded(lambda pixels, asked: lines.scribbled(pixels, asked.threshold_a)),
        "lineart_standard": _padded(lambda pixels, _: lines.drawn(pixels)),
        "softedge_plain": _padded(lambda pixels, _: lines.softened(pixels)),
        "color": _in_squares,
        "blur_gaussian": _blurred,
        "shuffle": lambda pixels, asked: shuffling.shuffled(pixels, asked.seed),
        "tile_resample": _smaller,
        "recolor_luminance": lambda pixels, asked: colours.luminance(pixels, asked.threshold_a),
        "recolor_intensity": lambda pixels, asked: colours.intensity(pixels, asked.threshold_a),
        "inpaint": _as_it_is,
        "inpaint_only": _as_it_is,
    }
)


def check(asked: Preprocessing) -> None:
    """Raise InvalidValue for what no module does."""
    if asked.module not in MODULES and not asked.file:
        raise InvalidValue.of("module", f"no module is called {asked.module!r}; known are {', '.join(MODULES)}")
    if not SMALLEST <= asked.resolution <= LARGEST:
        raise InvalidValue.of("resolution", f"the resolution is {SMALLEST} ... {LARGEST} pixels")
    if not (math.isfinite(asked.threshold_a) and math.isfinite(asked.threshold_b)):
        raise InvalidValue.of("threshold_a", "thresholds must be finite numbers")
    if asked.module == "blur_gaussian" and asked.threshold_a > LARGEST_DEVIATION:
        raise InvalidValue.of("threshold_a", f"the deviation is at most {LARGEST_DEVIATION:g} pixels")
    if asked.module.startswith("recolor") and not 0 < asked.threshold_a <= 16:
        raise InvalidValue.of("threshold_a", "gamma is above 0 and at most 16")


def map_of(
    pixels: Pixels, mask: NDArray[np.uint8] | None, asked: Preprocessing, by_network: Module | None = None
) -> Pixels:
    """Return the map of a picture [height, width, 3]; `by_network` draws for the modules that are none of `MODULES`.

    Inpainting modules give the mask [height, width] as a fourth channel; without one nothing is open.
    """
    if asked.module not in OWN_SIZE:
        pixels = to_short_side(pixels, asked.resolution)
    draw = MODULES.get(asked.module, by_network)
    if draw is None:
        raise InvalidValue.of("module", f"the module {asked.module!r} needs a network")
    made = draw(pixels, asked)
    if asked.module not in INPAINTING:
        return made
    open_ = np.zeros(made.shape[:2], dtype=np.uint8) if mask is None else mask
    return np.concatenate([made, open_[:, :, None]], axis=2)


def shown(pixels: Pixels) -> Image.Image:
    """Return a map as a picture; what is open shows half transparent."""
    if pixels.shape[2] == 4:
        pixels = pixels.copy()
        pixels[:, :, 3] = 255 - pixels[:, :, 3] // 2
    return Image.fromarray(pixels)
