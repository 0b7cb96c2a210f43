"""Soft inpainting: shades of the mask blend latents at every step, and change decides what the result keeps.

What A1111 1.10's built-in script of that name does, in its order of operations.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from server.core.image import Size, SoftInpaint
from server.engines.image.resizing import resized

Floats = NDArray[np.float64]

_REACH = 2  # cells on each side that a filter looks at
_SPREAD = 1.5
_EDGE_BLUR = 4.0  # pixels


def blend(soft: SoftInpaint, old: torch.Tensor, new: torch.Tensor, remade: torch.Tensor, level: float) -> torch.Tensor:
    """Mix latents [batch, C, h, w]: `new` by the share of the mask `remade` [h, w] at that noise level.

    The mask is raised to a power that falls with the noise. Cells are mixed linearly; their lengths along C are mixed
    as powers of `soft.contrast`, which leans towards the longer one.
    """
    share = remade ** (level**soft.schedule_bias * soft.preservation)
    rest = 1 - share
    mixed = old * rest + new * share
    lengths = [torch.linalg.vector_norm(each, dim=1, keepdim=True).to(torch.float64) for each in (mixed, old, new)]
    power = soft.contrast
    wanted = (lengths[1] ** power * rest + lengths[2] ** power * share) ** (1 / power)
    return mixed * (wanted / (lengths[0] + 0.00001)).to(mixed.dtype)


def mask_of_change(
    soft: SoftInpaint, old: torch.Tensor, new: torch.Tensor, remade: torch.Tensor, size: Size
) -> Image.Image:
    """Return the mask (mode L, of `size`) of what has changed between two latents [C, h, w]; white is new."""
    shades = remade.clamp(0, 1).cpu().numpy().astype(np.float32)
    told = 1 - shades ** np.float32(soft.preservation / 2)
    told = 0.5 * (1 - soft.mask_influence) + told * soft.mask_influence
    half_at = soft.difference_threshold * (told / (1.00001 - told))
    distance = torch.linalg.vector_norm(new - old, dim=0).float().cpu().numpy()
    distance = weighted_window(distance, 0.9, 1.0)
    distance = weighted_window(distance, 0.25, 0.75)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        kept = 1 / (1 + (distance / half_at) ** soft.difference_contrast)
    kept = np.nan_to_num(kept, nan=1.0)
    changed = 1 - kept * kept * kept * (kept * (6 * kept - 15) + 10)
    levels = (255.0 * changed).clip(0, 255).astype(np.uint8)
    mask = resized(Image.fromarray(levels), size, "fill").convert("L")
    return mask.filter(ImageFilter.GaussianBlur(_EDGE_BLUR))


def weighted_window(values: NDArray[np.float32], low: float, high: float) -> NDArray[np.float32]:
    """Return for each cell the mean of its neighbours between two quantiles, all weighted by nearness.

    The neighbours' weights, stacked in the order of their values, are a line; the mean is taken over the part from
    `low` to `high` of it, which is at least 1 long.
    """
    weights = _weights()
    height, width = values.shape
    padded = np.pad(values.astype(np.float64), _REACH)
    inside = np.pad(np.ones_like(values, dtype=np.float64), _REACH)
    offsets = list(np.ndindex(weights.shape))
    around = np.stack([padded[y : y + height, x : x + width] for y, x in offsets])
    weight = np.stack([inside[y : y + height, x : x + width] * weights[y, x] for y, x in offsets])
    order = around.argsort(axis=0, kind="stable")
    around, weight = np.take_along_axis(around, order, 0), np.take_along_axis(weight, order, 0)
    ends = weight.cumsum(axis=0)
    first, last = _bounds(ends[-1], low, high)
    overlap = (np.minimum(last, ends) - np.maximum(first, ends - weight)).clip(min=0)
    total = overlap.sum(axis=0)
    mean = np.divide((around * overlap).sum(axis=0), total, out=np.zeros_like(total), where=total != 0)
    return mean.astype(np.float32)


def _bounds(total: Floats, low: float, high: float) -> tuple[Floats, Floats]:
    """Return where on lines of these lengths the window begins and ends; a short one is widened to 1 on both sides."""
    first, last = total * low, total * high
    short = last - first < 1.0
    middle = (first + last) / 2
    begin, end = middle - 0.5, middle + 0.5
    over = end > total
    begin, end = np.where(over, total - 1.0, begin), np.where(over, total, end)
    under = begin < 0
    begin, end = np.where(under, 0.0, begin), np.where(under, 1.0, end)
    return np.where(short, begin, first), np.where(short, end, last)


def _weights() -> Floats:
    """Return the neighbours' weights, [5, 5]: a Gaussian lowered so that it would be 0 one cell further out."""
    outside = math.exp(-((_REACH + 1.0) ** 2) / _SPREAD**2)
    axis = np.arange(-_REACH, _REACH + 1, dtype=np.float64)
    bell = np.exp(-(axis[:, None] ** 2 + axis[None, :] ** 2) / _SPREAD**2)
    return np.maximum((bell - outside) / (1 - outside), 0.0)
