"""Blurs and swellings with mirrored borders, as OpenCV does them."""

import numpy as np
from numpy.typing import NDArray

from server.engines.image.preprocess.resampling import Floats

FEW_TAPS = 33
"""Up to so many taps are summed one by one; longer kernels go through frequencies."""

REACH_BYTES = 3.0
REACH_FLOATS = 4.0
"""Deviations that a kernel reaches to each side, for pictures of bytes and of floats."""


def gaussian(values: NDArray[np.uint8] | Floats, sigma: float) -> Floats:
    """Return [height, width, channels] blurred by a Gaussian of `sigma` pixels, not rounded."""
    reach = REACH_BYTES if values.dtype == np.uint8 else REACH_FLOATS
    taps = _taps(sigma, reach)
    made = np.empty(values.shape, dtype=np.float32)
    for channel in range(values.shape[2]):  # one by one: spectra are large
        made[:, :, channel] = _along(_along(values[:, :, channel].astype(np.float32), taps, 1), taps, 0)
    return made


def mean(values: Floats, size: int) -> Floats:
    """Return [height, width] with each value the mean of a square of `size` (odd) around it."""
    taps = np.full(size, 1 / size)
    return _along(_along(values, taps, 1), taps, 0)


def swollen(values: Floats, size: int) -> Floats:
    """Return [height, width] with each value the largest in a square of `size` (odd) around it, within the picture."""
    half = size // 2
    for axis in (0, 1):
        margin = [(half, half) if each == axis else (0, 0) for each in (0, 1)]
        padded = np.pad(values, margin, constant_values=-np.inf)
        length = values.shape[axis]
        values = np.maximum.reduce([_cut(padded, start, length, axis) for start in range(size)])
    return values


def _taps(sigma: float, reach: float) -> NDArray[np.float64]:
    half = (round(sigma * reach * 2 + 1) | 1) // 2
    taps = np.exp(-0.5 * (np.arange(-half, half + 1) / sigma) ** 2)
    return taps / taps.sum()


def _along(values: Floats, taps: NDArray[np.float64], axis: int) -> Floats:
    half, length = len(taps) // 2, values.shape[axis]
    margin = [(half, half) if each == axis else (0, 0) for each in range(values.ndim)]
    padded = np.pad(values, margin, mode="reflect" if length > 1 else "edge")
    if len(taps) > FEW_TAPS:
        return _by_frequencies(padded, taps, axis, length)
    total = np.zeros_like(values)
    for start, tap in enumerate(taps):
        total += np.float32(tap) * _cut(padded, start, length, axis)
    return total


def _by_frequencies(padded: Floats, taps: NDArray[np.float64], axis: int, length: int) -> Floats:
    """Multiply spectra; what wraps around falls on the margin, which is cut off."""
    size = padded.shape[axis]
    response = np.fft.rfft(taps.astype(np.float32), size)
    shape = [1] * padded.ndim
    shape[axis] = len(response)
    spectrum = np.fft.rfft(padded, axis=axis) * response.reshape(shape)
    whole = np.fft.irfft(spectrum, size, axis=axis).astype(np.float32)
    return _cut(whole, len(taps) - 1, length, axis)


def _cut(values: Floats, start: int, length: int, axis: int) -> Floats:
    return values[start : start + length] if axis == 0 else values[:, start : start + length]
