"""A result in the colours of the picture it came from: histograms matched in Lab, then the result's own brightness.

Lab is 8 bits a channel in OpenCV's fixed point (tables of 15 and 14 bits), for the matched histograms depend on every
level of it. Brightness is put back as in W3C's "Compositing and Blending", mode luminosity, with weights of Rec. 601.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_TO_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
_FROM_XYZ = ((3.240479, -1.53715, -0.498535), (-0.969256, 1.875991, 0.041556), (0.055648, -0.204043, 1.057311))
_WHITE = (0.950456, 1.0, 1.088754)
_XYZ_BITS, _GAMMA_BITS, _BASE_BITS, _INVERSE_BITS = 12, 3, 14, 12
_ROOT_BITS = _XYZ_BITS + _GAMMA_BITS
_BASE = 1 << _BASE_BITS
_CUBE_BREAK, _SLOPE, _BIAS = 216 / 24389, 841 / 108, 16 / 116
_LOWEST = -8145  # of the sums that index the table of cubes
_WEIGHTS = (0.299, 0.587, 0.114)


def colours_of(image: Image.Image) -> Bytes:
    """Return what `corrected` needs of a picture: its Lab values [H, W, 3]."""
    return to_lab(np.asarray(image.convert("RGB")))


def corrected(image: Image.Image, wanted: Bytes) -> Image.Image:
    """Return the RGB image with the colours of `wanted`, a picture's `colours_of`, and its own brightness."""
    lab = to_lab(np.asarray(image))
    matched = np.stack([matched_levels(lab[..., i], wanted[..., i]) for i in range(3)], axis=-1)
    return _with_brightness(from_lab(matched), np.asarray(image))


def matched_levels(source: Bytes, wanted: Bytes) -> Bytes:
    """Return `source` with each level replaced so that its distribution becomes that of `wanted`; rounded down."""
    counts, wanted_counts = np.bincount(source.reshape(-1)), np.bincount(wanted.reshape(-1))
    levels = np.nonzero(wanted_counts)[0]
    shares = np.cumsum(counts) / source.size
    wanted_shares = np.cumsum(wanted_counts[levels]) / wanted.size
    mapped: Bytes = np.interp(shares, wanted_shares, levels).astype(np.uint8)[source]
    return mapped


def to_lab(rgb: Bytes) -> Bytes:
    """Return [..., 3] RGB as Lab: L * 255 / 100, a + 128, b + 128."""
    linear = _tables().gamma[rgb]
    x, y, z = (
        _tables().root[_descaled(linear @ _scaled([each / white for each in row]), _XYZ_BITS)]
        for row, white in zip(_TO_XYZ, _WHITE, strict=True)
    )
    middle = 128 << _ROOT_BITS
    lightness = (116 * 255 + 50) // 100 * y - (16 * 255 * (1 << _ROOT_BITS) + 50) // 100
    parts = (lightness, 500 * (x - y) + middle, 200 * (y - z) + middle)
    return np.stack([_descaled(part, _ROOT_BITS) for part in parts], axis=-1).clip(0, 255).astype(np.uint8)


def from_lab(lab: Bytes) -> Bytes:
    """Return [..., 3] Lab, as `to_lab` gives it, as RGB."""
    tables = _tables()
    lightness, a, b = (lab[..., i].astype(np.int64) for i in range(3))
    root = tables.lightness_root[lightness]
    x = tables.cube[root + ((5 * a * 53687 + 128) >> 13) - 128 * _BASE // 500 - _LOWEST]
    z = tables.cube[root - ((b * 41943 + 16) >> 9) + 128 * _BASE // 200 - 1 - _LOWEST]
    xyz = np.stack([x, tables.lightness[lightness], z], axis=-1)
    bits = _XYZ_BITS + _BASE_BITS - _INVERSE_BITS
    rows = [_scaled([row[i] * _WHITE[i] for i in range(3)]) for row in _FROM_XYZ]
    linear = [_descaled(xyz @ row, bits) for row in rows]
    top = (1 << _INVERSE_BITS) - 1
    return tables.inverse_gamma[np.stack(linear, axis=-1).clip(0, top)].astype(np.uint8)


@dataclass(frozen=True)
class _Tables:
    gamma: Ints
    root: Ints
    lightness: Ints
    lightness_root: Ints
    cube: Ints
    inverse_gamma: Ints


@cache
def _tables() -> _Tables:
    levels = np.arange(256)
    steps = np.arange(256 * 3 // 2 << _GAMMA_BITS) / (255 << _GAMMA_BITS)
    roots = np.where(steps < _CUBE_BREAK, steps * _SLOPE + _BIAS, np.cbrt(steps))
    dark = levels <= 20  # L below 8
    fractions = np.where(dark, _BIAS + levels * 5 / (3 * 17 * 29), levels * 100 / (255 * 116) + _BIAS)
    whole = np.where(dark, levels * 20 * 9 / (17 * 29**3), fractions**3)
    sums = np.arange(_LOWEST, _BASE * 9 // 4 + _LOWEST)
    straight = np.trunc(sums * 108 / 841).astype(np.int64) - _BASE * 16 // 116 * 108 // 841
    inverse = np.arange(1 << _INVERSE_BITS) / (1 << _INVERSE_BITS)
    return _Tables(
        gamma=_rounded((255 << _GAMMA_BITS) * _linear(levels / 255)),
        root=_rounded((1 << _ROOT_BITS) * roots),
        lightness=_rounded(_BASE * whole),
        lightness_root=_rounded(_BASE * fractions),
        cube=np.where(sums <= 3390, straight, sums * sums // _BASE * sums // _BASE),
        inverse_gamma=_rounded(255 * _companded(inverse)),
    )


def _linear(x: Floats) -> Floats:
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def _companded(x: Floats) -> Floats:
    return np.where(x <= 0.0031308, x * 12.92, x ** (1 / 2.4) * 1.055 - 0.055)


def _scaled(coefficients: list[float]) -> Ints:
    return np.array([round(each * (1 << _XYZ_BITS)) for each in coefficients])


def _rounded(values: Floats) -> Ints:
    return np.rint(values).astype(np.int64)


def _descaled(values: Ints, bits: int) -> Ints:
    return (values + (1 << (bits - 1))) >> bits


def _with_brightness(colours: Bytes, bright: Bytes) -> Image.Image:
    """Return `colours` at the brightness of `bright`; what leaves 0 ... 1 is drawn towards that brightness."""
    base, light = colours / 255, _brightness(bright / 255)
    base = base + (light - _brightness(base))
    light = _brightness(base)
    low, high = base.min(-1, keepdims=True), base.max(-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        base = np.where(low < 0, light + (base - light) * light / (light - low), base)
        base = np.where(high > 1, light + (base - light) * (1 - light) / (high - light), base)
    return Image.fromarray(np.clip((base * 255).round(), 0, 255).astype(np.uint8))


def _brightness(colours: Floats) -> Floats:
    return (colours[..., 0] * _WEIGHTS[0] + colours[..., 1] * _WEIGHTS[1] + colours[..., 2] * _WEIGHTS[2])[..., None]
