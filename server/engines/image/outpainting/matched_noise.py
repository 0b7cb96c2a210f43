"""Noise for the room beside a picture, of the picture's own spectrum and colours (the idea of "outpainting mk2").

With F the Fourier transform, S the picture where it is and its mean elsewhere, and N white noise through a window that
falls off with the distance from the middle:

    noise = F^-1(|F(N)|^2 |F(S)|^detail F(S) / |F(S)|), brought to 0 ... 1,

whose levels are then matched, channel by channel, to those of the picture. The dice are always the same, as there.
"""

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

SEED = 0
TINY = 1e-6
SHUT = 1e-3


def matched(picture: Values, mask: Values, detail: float, colour_variation: float) -> Values:
    """Return the picture [height, width, 3], 0 ... 1, with noise where the mask [height, width] is 1."""
    height, width = mask.shape
    known = picture * (1 - mask[:, :, None])
    seen, open_ = mask < SHUT, mask > TINY
    if not seen.any() or not open_.any():
        return known
    mean = known.mean()
    dice = np.random.default_rng(SEED).random((height, width, 3))
    grey = dice.mean(axis=2)
    window = _window(height, width)
    source = known * (1 - mask[:, :, None])
    source /= max(source.max(), TINY)
    shaped = np.empty_like(known)
    for channel in range(3):
        noise = dice[:, :, channel] * colour_variation + (1 - colour_variation) * grey
        spectrum = _transformed(source[:, :, channel] + mean * mask)
        strength = np.abs(spectrum)
        phase = spectrum / np.maximum(strength, 1e-30)
        white = _transformed(_back(_transformed(noise) * window))
        shaped[:, :, channel] = _back(np.abs(white) ** 2 * strength**detail * phase)
    shaped -= shaped.min()
    shaped /= max(shaped.max(), TINY)
    for channel in range(3):
        shaped[open_, channel] = _with_levels(shaped[open_, channel], known[seen, channel])
    return np.clip(known * (1 - mask[:, :, None]) + shaped * mask[:, :, None], 0.0, 1.0)


def _with_levels(values: Values, like: Values) -> Values:
    """Return values with the histogram of others: equal shares of both lie below a value and what it becomes."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    levels, level_counts = np.unique(like, return_counts=True)
    shares = np.cumsum(counts) / values.size
    found: Values = np.interp(shares, np.cumsum(level_counts) / like.size, levels)
    return found[place]


def _window(height: int, width: int) -> Values:
    """Return the window in the spectrum: 1 / ((1 + x^2) (1 + y^2)), the shorter side from -1 to 1."""
    shorter = min(height, width)
    down = (np.arange(height) / height * 2 - 1) * (height / shorter)
    across = (np.arange(width) / width * 2 - 1) * (width / shorter)
    return 1 / ((down[:, None] ** 2 + 1) * (across[None, :] ** 2 + 1))


def _transformed(plane: Values) -> NDArray[np.complex128]:
    """Return the spectrum with the mean in the middle."""
    return np.fft.ifftshift(np.fft.fft2(np.fft.fftshift(plane), norm="ortho"))


def _back(spectrum: NDArray[np.complex128]) -> Values:
    plane: Values = np.real(np.fft.ifftshift(np.fft.ifft2(np.fft.fftshift(spectrum), norm="ortho")))
    return plane
