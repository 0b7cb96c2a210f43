"""Normal numbers as a CUDA device would draw them, in software: Philox4x32-10 and the Box-Muller transform.

Philox is from Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (2011); its constants are from there. How
words become normals follows CUDA's curand. Only the sine half of each pair is used, as the A1111 `NV` source does.
"""

import math

import numpy as np
import numpy.typing as npt

_MULTIPLY_0 = np.uint64(0xD2511F53)
_MULTIPLY_2 = np.uint64(0xCD9E8D57)
_KEY_STEP_0 = 0x9E3779B9
_KEY_STEP_1 = 0xBB67AE85
_LOW = np.uint64(0xFFFFFFFF)
_HIGH_SHIFT = np.uint64(32)
_ROUNDS = 10

# curand holds these as float32; the products are then taken in float64.
_UNIT = np.float64(np.float32(2.3283064e-10))
_UNIT_2PI = np.float64(np.float32(2.3283064e-10 * 6.2831855))

Words = npt.NDArray[np.uint64]


class Philox:
    """A stream of normal tensors. The k-th draw depends on the seed and k alone, whatever sizes were drawn before."""

    def __init__(self, seed: int) -> None:
        self._key = (seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF)
        self._draws = 0

    def normal(self, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """Return standard normals of `shape`, float32, in C order."""
        first, second = _rounds(self._draws, math.prod(shape), self._key)
        self._draws += 1
        u = first * _UNIT + _UNIT / 2
        v = second * _UNIT_2PI + _UNIT_2PI / 2
        drawn: npt.NDArray[np.float64] = np.sqrt(-2.0 * np.log(u)) * np.sin(v)
        return drawn.astype(np.float32).reshape(shape)


def _rounds(draw: int, count: int, key: tuple[int, int]) -> tuple[Words, Words]:
    """Return the first two output words of `count` blocks; words are 32 bits wide, held in 64."""
    c0 = np.full(count, draw & 0xFFFFFFFF, dtype=np.uint64)
    c1 = np.zeros(count, dtype=np.uint64)
    c2 = np.arange(count, dtype=np.uint64)
    c3 = np.zeros(count, dtype=np.uint64)
    k0, k1 = key
    for _ in range(_ROUNDS):
        p0 = c0 * _MULTIPLY_0
        p2 = c2 * _MULTIPLY_2
        c0, c1 = (p2 >> _HIGH_SHIFT) ^ c1 ^ np.uint64(k0), p2 & _LOW
        c2, c3 = (p0 >> _HIGH_SHIFT) ^ c3 ^ np.uint64(k1), p0 & _LOW
        k0 = (k0 + _KEY_STEP_0) & 0xFFFFFFFF
        k1 = (k1 + _KEY_STEP_1) & 0xFFFFFFFF
    return c0, c1
