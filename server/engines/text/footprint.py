"""Measures what a loaded model takes: main memory of this process, and memory of accelerators where there are any."""

import ctypes
import os
from pathlib import Path
from typing import Any

import llama_cpp
from llama_cpp import _ggml

from server.core.memory import RAM, Footprint, PoolId, vram

_STATM = Path("/proc/self/statm")
_GPU = 1  # ggml's device type: a graphics card with memory of its own


class Meter:
    """Remembers the memory in use when it was made and tells what has come on top."""

    def __init__(self) -> None:
        self._before = _resident()
        self._free_before = _free_on_devices()

    def footprint(self, weights: int) -> Footprint:
        """Return the bytes held since then, per pool.

        `weights` bytes of the model count at least, also where a mapped file has not been read yet; layers on an
        accelerator are taken off.
        """
        devices: dict[PoolId, int] = {}
        for index, (before, now) in enumerate(zip(self._free_before, _free_on_devices(), strict=False)):
            devices[vram(index)] = max(0, before - now)
        ram = max(_resident() - self._before, weights - sum(devices.values()), 0)
        return Footprint(resident={RAM: ram, **devices})


def _resident() -> int:
    try:
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):  # not Linux: the weights alone are counted
        return 0


def _free_on_devices() -> list[int]:
    """Return the free bytes of each accelerator the library was built for."""
    if not llama_cpp.llama_supports_gpu_offload():
        return []
    ggml: Any = _ggml.libggml
    ggml.ggml_backend_dev_count.restype = ctypes.c_size_t
    ggml.ggml_backend_dev_get.argtypes, ggml.ggml_backend_dev_get.restype = [ctypes.c_size_t], ctypes.c_void_p
    ggml.ggml_backend_dev_type.argtypes, ggml.ggml_backend_dev_type.restype = [ctypes.c_void_p], ctypes.c_int
    count = ctypes.POINTER(ctypes.c_size_t)
    ggml.ggml_backend_dev_memory.argtypes = [ctypes.c_void_p, count, count]
    found = []
    for index in range(ggml.ggml_backend_dev_count()):
        device = ggml.ggml_backend_dev_get(index)
        if ggml.ggml_backend_dev_type(device) != _GPU:
            continue
        free, total = ctypes.c_size_t(0), ctypes.c_size_t(0)
        ggml.ggml_backend_dev_memory(device, ctypes.byref(free), ctypes.byref(total))
        found.append(int(free.value))
    return found
