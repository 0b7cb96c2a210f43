"""Q4_2 as Q6_K: scales within half a step, quants exactly."""

import numpy as np
import pytest

from server.engines.text.legacy.six_bits import six_bits
from tests.support.ggml_values import dequantised

pytestmark = pytest.mark.llama


def values(scales: np.ndarray, quants: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what the library reads, and what was meant: both [n, 16, 16]."""
    made = six_bits(scales.astype(np.float32), quants.astype(np.uint8))
    assert made.shape == (len(scales), 210) and made.dtype == np.uint8
    meant = scales[:, :, None].astype(np.float64) * (quants.astype(np.float64) - 8)
    return dequantised(made.tobytes(), 14, meant.size).reshape(meant.shape), meant


@pytest.mark.parametrize("size", [1e-4, 1e-3, 0.02, 1.0, 500.0])
def test_every_quant_and_sign_survives(size: float) -> None:
    random = np.random.default_rng(3)
    scales = (random.standard_normal((40, 16)) * size).astype(np.float16)
    quants = np.tile(np.arange(16), (40, 16, 1))
    read, meant = values(scales, quants)
    # A scale lies within half a step of the finest factor that reaches it.
    assert np.abs(read - meant).max() <= 0.006 * np.abs(meant).max(axis=(1, 2)).max()
    assert np.sqrt(np.mean((read - meant) ** 2)) < 0.004 * np.sqrt(np.mean(meant**2))


def test_the_largest_scale_of_a_block_is_never_cut_off() -> None:
    """The common scale is rounded up: rounded down, 127 steps of it would not reach the largest."""
    for size in np.geomspace(1e-3, 3.0, 200):
        scales = np.full((1, 16), np.float16(size))
        read, meant = values(scales, np.full((1, 16, 16), 0))
        assert np.abs(read / meant - 1).max() < 0.005


def test_blocks_of_nothing() -> None:
    read, meant = values(np.zeros((2, 16)), np.full((2, 16, 16), 3))
    assert (read == 0).all() and (meant == 0).all()
