"""Q4_2 into Q6_K without dequantising: both have a scale for 16 weights, so 4-bit quants fit into 6 bits as they are.

A block of Q6_K has 256 weights `D * s * q` with one float16 D, sixteen int8 s and quants q of -32 ... 31. For each 16
weights `d * (q - 8)` a k of 1 ... 4 is chosen by which `s * k * D` comes nearest to d; the quants are then k * (q - 8).
"""

import numpy as np
import numpy.typing as npt

_FACTORS = (1, 2, 3, 4)
_LARGEST = 127
_QUARTERS = (2, 4, 32)  # of the 256 quants: two halves of four quarters, whose bits share bytes


def six_bits(scales: npt.NDArray[np.float32], quants: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return blocks [n, 210] of Q6_K for scales [n, 16] and quants [n, 16, 16] of 0 ... 15."""
    shared = _shared_scale(scales)
    factors, steps = _factors(scales, shared.astype(np.float32))
    moved = (quants.astype(np.int8) - 8) * factors[:, :, None] + 32
    low, high = _bits(moved.astype(np.uint8).reshape(-1, *_QUARTERS))
    return np.concatenate([low, high, steps.view(np.uint8), shared.view(np.uint8)], axis=1)


def _shared_scale(scales: npt.NDArray[np.float32]) -> npt.NDArray[np.float16]:
    """Return D [n, 1]: the largest scale over 4 * 127, rounded up, so that no step is cut off."""
    wanted = np.abs(scales).max(axis=1, keepdims=True) / (_FACTORS[-1] * _LARGEST)
    shared = wanted.astype("<f2")
    return np.where(shared.astype(np.float32) < wanted, np.nextafter(shared, np.float16(np.inf)), shared).astype("<f2")


def _factors(
    scales: npt.NDArray[np.float32], shared: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int8]]:
    """Return k and s [n, 16] by which `s * k * D` is nearest to each scale."""
    best = np.full(scales.shape, np.inf, np.float32)
    factors, steps = np.ones(scales.shape, np.int8), np.zeros(scales.shape, np.int8)
    for factor in _FACTORS:
        unit = shared * factor
        step = np.rint(np.divide(scales, unit, out=np.zeros_like(scales), where=unit > 0))
        step = np.clip(step, -_LARGEST, _LARGEST)
        error = np.abs(step * unit - scales)
        better = error < best
        best = np.where(better, error, best)
        factors[better], steps[better] = factor, step[better].astype(np.int8)
    return factors, steps


def _bits(quants: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Return the low four bits [n, 128] and the high two [n, 64] of quants [n, 2, 4, 32] as Q6_K has them."""
    first, second, third, fourth = (quants[:, :, quarter] for quarter in range(4))
    low = np.concatenate([first & 15 | third << 4, second & 15 | fourth << 4], axis=2)
    high = first >> 4 | second >> 4 << 2 | third >> 4 << 4 | fourth >> 4 << 6
    return tuple(part.astype(np.uint8).reshape(len(quants), -1) for part in (low, high))  # type: ignore[return-value]
