"""The layout of the first days is told by its numbers, for each type, and turned into blocks."""

import numpy as np
import pytest

from server.engines.text.legacy.old_rows import Unclear, by_blocks, is_by_rows
from tests.support.ggml_writer import GGML, Q4_0, Q4_1, ROWS, Era, quantised


def rows(code: int, era: Era, seed: int = 1, scale: float = 0.02) -> np.ndarray:
    random = np.random.default_rng(seed)
    made, _ = quantised(random.standard_normal((20, 512)) * scale, code, era)
    return np.frombuffer(b"".join(made), np.uint8).reshape(20, -1)


@pytest.mark.parametrize("code", [Q4_0, Q4_1])
@pytest.mark.parametrize("scale", [1e-4, 0.02, 3.0])
def test_both_layouts_are_told_apart(code: int, scale: float) -> None:
    for seed in range(5):
        assert is_by_rows(rows(code, ROWS, seed, scale), code)
        assert not is_by_rows(rows(code, GGML, seed, scale), code)


@pytest.mark.parametrize("code", [Q4_0, Q4_1])
def test_rows_become_the_blocks_of_the_next_layout(code: int) -> None:
    """For Q4_1 the minimum stood before the scale."""
    old, new = rows(code, ROWS), rows(code, GGML)
    assert (by_blocks(old, code) == new.reshape(-1, 24 if code == Q4_1 else 20)).all()


@pytest.mark.parametrize("code", [Q4_0, Q4_1])
def test_nonsense_is_told(code: int) -> None:
    noise = np.random.default_rng(1).integers(0, 256, rows(code, GGML).shape).astype(np.uint8)
    with pytest.raises(Unclear):
        is_by_rows(noise, code)


@pytest.mark.parametrize("code", [Q4_0, Q4_1])
def test_a_tensor_of_zeros_is_no_damage(code: int) -> None:
    assert not is_by_rows(np.zeros_like(rows(code, GGML)), code)
