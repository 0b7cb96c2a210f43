"""The layout of the first days (10 to 17 March 2023, and alpaca.cpp's to its end): parts of blocks apart in each row.

A row of Q4_0 began with the scales of all its blocks, one of Q4_1 with all minima and then all scales; the quants came
behind. Sizes are those of the next layout and no header tells them apart, so the numbers must: read the wrong way,
quants pass for scales, and few of those are of a size that scales have.
"""

import numpy as np
import numpy.typing as npt

from server.core.ggml.types import Q4_1

Bytes = npt.NDArray[np.uint8]

SURE = 0.9
_QUANTS = 16


class Unclear(ValueError):
    """The numbers make sense neither way: the file is damaged."""


def is_by_rows(rows: Bytes, code: int) -> bool:
    """Tell whether these rows [n, bytes] of Q4_0 or Q4_1 are of the first layout; raise Unclear for nonsense."""
    apart = _plausible(by_blocks(rows, code), code)
    together = _plausible(rows.reshape(-1, _size(code)), code)
    if max(apart, together) <= SURE:
        raise Unclear
    return apart > together


def by_blocks(rows: Bytes, code: int) -> Bytes:
    """Return rows [n, bytes] of the first layout as blocks [n * blocks a row, size] of the next one."""
    count = rows.shape[1] // _size(code)
    fields = 2 if code == Q4_1 else 1
    numbers = rows[:, : 4 * fields * count].reshape(len(rows), fields, count, 4)
    quants = rows[:, 4 * fields * count :].reshape(len(rows), count, _QUANTS)
    # The minimum came first; in blocks the scale does.
    parts = [numbers[:, field] for field in reversed(range(fields))]
    return np.concatenate([*parts, quants], axis=2).reshape(-1, _size(code))


def _size(code: int) -> int:
    return (8 if code == Q4_1 else 4) + _QUANTS


def _plausible(blocks: Bytes, code: int) -> float:
    """Return the share of numbers that could be scales or minima: zero or 1e-8 ... 1e3, scales of Q4_1 not negative."""
    fields = 2 if code == Q4_1 else 1
    numbers = np.ascontiguousarray(blocks[:, : 4 * fields]).view("<f4")
    with np.errstate(invalid="ignore"):
        sizes = np.abs(numbers)
        good = (numbers == 0) | ((sizes > 1e-8) & (sizes < 1e3))
        if code == Q4_1:
            good[:, 0] &= ~(numbers[:, 0] < 0)
    return float(good.mean())
