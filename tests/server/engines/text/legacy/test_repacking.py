"""Blocks of every old layout against a reference in float64, read back by llama.cpp's own dequantisers."""

import numpy as np
import pytest

from server.core.ggml.types import GGUF, target
from server.engines.text.legacy.repacking import NotFinite, TooLarge, eight_bits, repacker, weights
from tests.support.ggml_values import dequantised
from tests.support.ggml_writer import (
    BLOCKS,
    GGJT1,
    GGJT2,
    GGJT3,
    GGML,
    Q4_0,
    Q4_1,
    Q4_2,
    Q4_3,
    Q5_0,
    Q5_1,
    Q8_0,
    Era,
    quantised,
)

pytestmark = pytest.mark.llama

LAYOUTS = [
    *((GGML, code) for code in (Q4_0, Q4_1)),
    *((GGJT1, code) for code in (Q4_0, Q4_1, Q4_2, Q4_3, Q5_0, Q5_1, Q8_0)),
    *((GGJT2, code) for code in (Q4_0, Q4_1, Q5_0, Q5_1, Q8_0)),
    *((GGJT3, code) for code in (Q4_0, Q4_1, Q5_0, Q5_1, Q8_0)),
]
ALLOWED = {Q4_0: 5e-4, Q4_1: 1e-3, Q8_0: 6e-4, Q4_2: 6e-3, Q4_3: 6e-3}
"""Of a block's largest weight: scales that are rounded to 16 bits, and types that GGUF lacks. Others are kept."""


def blocks(code: int, era: Era, *, columns: int = 256, scale: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """Return the blocks [n, bytes] of random rows, and the weights [rows, columns] that they stand for."""
    random = np.random.default_rng(code)
    rows, values = quantised(random.standard_normal((6, columns)) * scale, code, era)
    count = 6 * columns // BLOCKS.get(code, 32)
    return np.frombuffer(b"".join(rows), np.uint8).reshape(count, -1), values


@pytest.mark.parametrize("columns", [256, 32, 96])
@pytest.mark.parametrize(("era", "code"), LAYOUTS)
def test_what_the_library_reads_is_what_was_written(era: Era, code: int, columns: int) -> None:
    old, values = blocks(code, era, columns=columns)
    repack = repacker(code, era.version, columns)
    new = old if repack is None else repack(old)
    made = target(code, columns)
    assert new.shape == (values.size // GGUF[made].weights, GGUF[made].size)
    read = dequantised(new.tobytes(), made, values.size).reshape(-1, 16)
    wanted = values.reshape(-1, 16)
    allowed = ALLOWED.get(code, 0.0) if era.version < 3 else 0.0
    largest = np.abs(values.reshape(-1, 32)).max(axis=1).repeat(2)[:, None]
    assert (np.abs(read - wanted) <= largest * (allowed + 1e-6)).all()


@pytest.mark.parametrize(("era", "code"), [(GGML, Q4_0), (GGML, Q4_1), (GGJT2, Q4_0), (GGJT2, Q4_1), (GGJT1, Q8_0)])
def test_weights_of_wide_scales(era: Era, code: int) -> None:
    old, values = blocks(code, era)
    assert np.allclose(weights(old, code, era.version).reshape(values.shape), values, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("era", "code"), [(GGML, Q4_0), (GGJT1, Q4_1), (GGJT2, Q8_0)])
def test_scales_that_16_bits_cannot_hold(era: Era, code: int) -> None:
    repack = repacker(code, era.version, 256)
    assert repack is not None
    for number, error in ((1e6, TooLarge), (-7e4, TooLarge), (np.inf, NotFinite), (np.nan, NotFinite)):
        damaged = blocks(code, era)[0].copy()
        damaged[3, :4] = np.frombuffer(np.float32(number).tobytes(), np.uint8)
        with pytest.raises(error):
            repack(damaged)


@pytest.mark.parametrize(("code", "columns"), [(Q4_2, 256), (Q4_2, 32), (Q4_2, 16), (Q4_3, 256), (Q4_3, 16)])
def test_narrow_scales_must_be_finite(code: int, columns: int) -> None:
    repack = repacker(code, 1, columns)
    assert repack is not None
    damaged = blocks(code, GGJT1)[0].copy()
    damaged[5, :2] = (0x00, 0x7C)
    with pytest.raises(NotFinite):
        repack(damaged)


def test_rows_too_short_for_today_stay_whole_numbers() -> None:
    for code in (Q4_2, Q4_3):
        old, values = blocks(code, GGJT1, columns=16)
        repack = repacker(code, 1, 16)
        assert repack is not None
        read = dequantised(repack(old).tobytes(), 1, values.size).reshape(values.shape)
        assert np.abs(read - values).max() < 6e-4 * np.abs(values).max()


def test_eight_bits_of_nothing_and_of_extremes() -> None:
    values = np.zeros((3, 32), np.float32)
    values[1, 7], values[2] = -3.0, np.linspace(-60000, 60000, 32)
    read = dequantised(eight_bits(values).tobytes(), 8, 96).reshape(3, 32)
    assert np.abs(read - values).max(axis=1).tolist() <= [0.0, 0.0015, 500.0]
    with pytest.raises(NotFinite):
        eight_bits(np.full((1, 32), 1e9, np.float32))
