"""Blocks of weights from the layouts of 2023 to those of GGUF; whole arrays at once.

A block is a row of bytes: its scale, perhaps its minimum, its 4-bit quants. Old quants lie in *pairs* (byte k holds
element 2k in its low half, 2k+1 in its high one), today's in *halves* (element k and k+16). From the middle of May 2023
on they are halves; from the 19th on the scales have 16 bits instead of 32.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from server.core.ggml.types import F16, GGUF, Q4_0, Q4_1, Q4_2, Q4_3, Q5_0, Q5_1, Q6_K, Q8_0, target
from server.engines.text.legacy.six_bits import six_bits

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Repack = Callable[[Bytes], Bytes]

HALF_A_BYTE = 16


class NotFinite(ValueError):
    """A scale is infinite or no number: the file is damaged."""


class TooLarge(ValueError):
    """A scale is a number that 16 bits cannot hold."""


def repacker(code: int, version: int, columns: int) -> Repack | None:
    """Return what turns blocks [n, old size] of a type into blocks [n, new size] of `target(code, columns)`.

    None means that the bytes stay as they are. What is returned raises NotFinite or TooLarge.

    Args:
        code: the type in its record.
        version: of the container; 0 and 1 are the same here.
        columns: length of a row.
    """
    if version < 2 and code in _FIRST:
        return _FIRST[code]
    if version < 3 and code in _WIDE:
        return _WIDE[code]
    if code == Q4_2:
        return {Q6_K: six_bits_of_q4_2, Q8_0: _eight_bits_of_q4_2, F16: _half_of_q4_2}[target(code, columns)]
    if code == Q4_3:
        return _eight_bits_of_q4_3 if target(code, columns) == Q8_0 else _half_of_q4_3
    return None


def weights(blocks: Bytes, code: int, version: int) -> Floats:
    """Return the weights [n, block] of blocks with scales of 32 bits (Q4_0, Q4_1, Q8_0 before ggjt v3)."""
    if code == Q8_0:
        return _scales(blocks, 0) * blocks[:, 4:].view(np.int8).astype(np.float32)
    quants = nibbles(blocks[:, -HALF_A_BYTE:], halves=version >= 2).astype(np.float32)
    scales = _scales(blocks, 0)
    return quants * scales + _scales(blocks, 4) if code == Q4_1 else (quants - 8) * scales


def nibbles(packed: Bytes, *, halves: bool) -> Bytes:
    """Return the 4-bit numbers [n, 2k] of bytes [n, k] in their order."""
    low, high = packed & 15, packed >> 4
    if halves:
        return np.concatenate([low, high], axis=1)
    return np.stack([low, high], axis=2).reshape(len(packed), -1)


def halves_of_pairs(pairs: Bytes) -> Bytes:
    """Return bytes [n, 16] with the quants of a block in halves, given those in pairs."""
    first, second = pairs[:, :8], pairs[:, 8:]
    made = np.empty_like(pairs)
    made[:, 0::2] = first & 15 | second << 4
    made[:, 1::2] = first >> 4 | second & 0xF0
    return made


def half_scales(blocks: Bytes, count: int) -> Bytes:
    """Return the first `count` float32 of each block in float16, as bytes [n, 2 * count]; raise if they cannot be."""
    wide = np.ascontiguousarray(blocks[:, : 4 * count]).view("<f4")
    if not np.isfinite(wide).all():
        raise NotFinite
    with np.errstate(over="ignore"):
        narrow = wide.astype("<f2")
    if not np.isfinite(narrow).all():
        raise TooLarge
    return narrow.view(np.uint8)


def eight_bits(values: Floats) -> Bytes:
    """Return weights [n, 32] as blocks of Q8_0: a float16 scale, by which the largest becomes 127, and 32 int8."""
    with np.errstate(over="ignore"):
        scales = (np.abs(values).max(axis=1, keepdims=True) / 127).astype("<f2")
    if not np.isfinite(scales).all():
        raise NotFinite
    divisors = scales.astype(np.float32)
    quants = np.divide(values, divisors, out=np.zeros_like(values), where=divisors > 0)
    quants = np.clip(np.rint(quants), -127, 127).astype(np.int8)
    return np.concatenate([scales.view(np.uint8), quants.view(np.uint8)], axis=1)


def six_bits_of_q4_2(blocks: Bytes) -> Bytes:
    """Return blocks [n, 10] of 16 weights, n a multiple of 16, as blocks [n / 16, 210] of Q6_K."""
    count = GGUF[Q6_K].weights // 16
    scales = _half(blocks, 0).reshape(-1, count)
    return six_bits(scales, nibbles(blocks[:, 2:], halves=False).reshape(-1, count, 16))


def _scales(blocks: Bytes, at: int) -> Floats:
    return np.ascontiguousarray(blocks[:, at : at + 4]).view("<f4").astype(np.float32)


def _half(blocks: Bytes, at: int) -> Floats:
    scales = np.ascontiguousarray(blocks[:, at : at + 2]).view("<f2").astype(np.float32)
    if not np.isfinite(scales).all():
        raise NotFinite
    return scales


def _of_q4_2(blocks: Bytes) -> Floats:
    return (nibbles(blocks[:, 2:], halves=False).astype(np.float32) - 8) * _half(blocks, 0)


def _of_q4_3(blocks: Bytes) -> Floats:
    return nibbles(blocks[:, 4:], halves=False).astype(np.float32) * _half(blocks, 0) + _half(blocks, 2)


def _eight_bits_of_q4_2(blocks: Bytes) -> Bytes:
    return eight_bits(_of_q4_2(blocks).reshape(-1, 32))


def _eight_bits_of_q4_3(blocks: Bytes) -> Bytes:
    return eight_bits(_of_q4_3(blocks).reshape(-1, 32))


def _as_half(values: Floats) -> Bytes:
    with np.errstate(over="ignore"):
        narrow = values.astype("<f2")
    if not np.isfinite(narrow).all():
        raise NotFinite
    return narrow.view(np.uint8)


def _half_of_q4_2(blocks: Bytes) -> Bytes:
    return _as_half(_of_q4_2(blocks))


def _half_of_q4_3(blocks: Bytes) -> Bytes:
    return _as_half(_of_q4_3(blocks))


def _narrowed(count: int) -> Repack:
    return lambda blocks: np.concatenate([half_scales(blocks, count), blocks[:, 4 * count :]], axis=1)


def _narrowed_pairs(count: int) -> Repack:
    return lambda blocks: np.concatenate([half_scales(blocks, count), halves_of_pairs(blocks[:, 4 * count :])], axis=1)


def _unpaired(before: int) -> Repack:
    """Move only the quants, which stand behind so many bytes; the fifth bits of Q5 lie in order in all versions."""
    return lambda blocks: np.concatenate([blocks[:, :before], halves_of_pairs(blocks[:, before:])], axis=1)


_FIRST: dict[int, Repack] = {
    Q4_0: _narrowed_pairs(1),
    Q4_1: _narrowed_pairs(2),
    Q5_0: _unpaired(6),
    Q5_1: _unpaired(8),
}
_WIDE: dict[int, Repack] = {Q4_0: _narrowed(1), Q4_1: _narrowed(2), Q8_0: _narrowed(1)}
