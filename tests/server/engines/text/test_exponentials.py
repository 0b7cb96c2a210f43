"""Exponentials of long rows beside numpy's in double precision."""

import math

import numpy as np
import pytest

from server.engines.text import exponentials as subject
from server.engines.text.exponentials import exponentials


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("size", [1, 7, 4096, 4097, 50_001])
def test_they_are_those_of_numpy(size: int, native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not native:
        monkeypatch.setattr(subject, "_NATIVE", None)
    row = np.random.default_rng(size).normal(0, 8, size).astype(np.float32)
    row[::5] = -math.inf
    peak = float(row.max()) if size > 1 else 0.0
    wanted = np.exp(row.astype(np.float64) - peak)
    out = np.empty_like(row)
    assert math.isclose(exponentials(row, peak, out), wanted.sum(), rel_tol=1e-6, abs_tol=1e-30)
    np.testing.assert_allclose(out, wanted, rtol=1e-5, atol=1e-30)
    assert (out[::5] == 0).all()
    exponentials(row, peak, row)
    assert (row == out).all()


def test_rows_that_do_not_lie_together_are_taken_as_well() -> None:
    wide = np.random.default_rng(1).normal(0, 1, (20_000, 2)).astype(np.float32)
    out = np.empty(20_000, np.float32)
    exponentials(wide[:, 0], 3.0, out)
    np.testing.assert_allclose(out, np.exp(wide[:, 0].astype(np.float64) - 3), rtol=1e-5)


@pytest.mark.llama
def test_the_function_of_the_library_is_found() -> None:
    """Without it all is right but slow: whoever changes the library should know."""
    pytest.importorskip("llama_cpp")
    assert subject._NATIVE is not None
