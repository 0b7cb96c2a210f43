"""Exponentials of a long row, as ggml computes them: twice as fast as numpy's, and summed up on the way.

The function is the one that llama.cpp's own softmax calls (`ggml_vec_soft_max_f32`, relative error below 1e-6, 0 for
-inf). It is no promised part of the library's interface: where it is not found, numpy does the same.
"""

import ctypes
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Row = npt.NDArray[np.float32]

_LONG = 4096
"""Shorter rows are done before the foreign call has begun."""


def _native() -> Callable[..., float] | None:
    binding = find_spec("llama_cpp")
    if binding is None or binding.origin is None:
        return None
    for file in sorted((Path(binding.origin).parent / "lib").glob("libggml-cpu*")):
        try:
            found: Any = ctypes.CDLL(str(file)).ggml_vec_soft_max_f32
        except (OSError, AttributeError):
            continue
        found.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_float)
        found.restype = ctypes.c_double
        called: Callable[..., float] = found
        return called
    return None


_NATIVE = _native()


def exponentials(row: Row, peak: float, out: Row) -> float:
    """Write exp(row - peak) [n] into `out` [n], which may be the row itself, and return the sum, good to 1e-6.

    No logit may be above the peak by much, and none may be NaN.
    """
    if _NATIVE is not None and len(row) > _LONG and row.flags.c_contiguous and out.flags.c_contiguous:
        return float(_NATIVE(len(row), out.ctypes.data, row.ctypes.data, peak))
    np.subtract(row, np.float32(peak), out=out)
    return float(np.exp(out, out=out).sum(dtype=np.float64))
