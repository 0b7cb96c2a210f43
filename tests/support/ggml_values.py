"""The weights in a GGUF file, dequantised by llama.cpp's own functions."""

import ctypes
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from llama_cpp import _ggml

from server.registry.probe.gguf import read_gguf


class _Traits(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("weights", ctypes.c_int64),
        ("interleaved", ctypes.c_int64),
        ("size", ctypes.c_size_t),
        ("quantised", ctypes.c_bool),
        ("to_float", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)),
    )


def dequantised(data: bytes, code: int, count: int) -> npt.NDArray[np.float32]:
    """Return `count` weights of a type as the library reads them."""
    if code == 0:
        return np.frombuffer(data, "<f4", count)
    library: Any = _ggml.libggml_base if hasattr(_ggml, "libggml_base") else _ggml.libggml
    library.ggml_get_type_traits.restype = ctypes.POINTER(_Traits)
    traits = library.ggml_get_type_traits(code).contents
    out = np.empty(count, np.float32)
    raw = ctypes.create_string_buffer(data, len(data))
    traits.to_float(ctypes.addressof(raw), out.ctypes.data, count)
    return out


def gguf_values(path: Path) -> dict[str, npt.NDArray[np.float32]]:
    """Return all tensors of a file by name, rows first."""
    data = path.read_bytes()
    with path.open("rb", buffering=0) as file:
        header = read_gguf(file, len(data))
    values = {}
    for tensor in header.tensors:
        start = header.data_start + tensor.offset
        flat = dequantised(data[start : start + tensor.size], tensor.type, prod(tensor.dims))
        values[tensor.name] = flat.reshape(tuple(reversed(tensor.dims)))
    return values
