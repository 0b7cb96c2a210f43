"""The arrays of one `llama_decode` call for a part of a picture: embeddings in the place of tokens."""

import ctypes
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt

from server.engines.text.projector import Embedding


class PictureBatch:
    """Places of one piece of a picture, for one sequence. Made for one call; keeps what `native` points to.

    Args:
        sequence: its number.
        rows: embeddings [n, width].
        places: positions [1 or 4, n].
        output: whether results are wanted of the last place.
    """

    def __init__(self, sequence: int, rows: Embedding, places: npt.NDArray[np.int32], *, output: bool) -> None:
        count = len(rows)
        self.size = count
        self.outputs = int(output)
        self._rows = np.ascontiguousarray(rows, np.float32)
        self._places = np.ascontiguousarray(places, np.int32)
        self._counts = np.ones(count, np.int32)
        self._sequence = np.array([sequence], np.int32)
        self._sequences = np.full(count, self._sequence.ctypes.data, np.uintp)
        self._outputs = np.zeros(count, np.int8)
        self._outputs[-1] = output
        self.native = llama_cpp.llama_batch(
            n_tokens=count,
            token=None,
            embd=_pointer(self._rows, ctypes.c_float),
            pos=_pointer(self._places, llama_cpp.llama_pos),
            n_seq_id=_pointer(self._counts, ctypes.c_int32),
            seq_id=ctypes.cast(self._sequences.ctypes.data, ctypes.POINTER(ctypes.POINTER(llama_cpp.llama_seq_id))),
            logits=_pointer(self._outputs, ctypes.c_int8),
        )


def _pointer(array: npt.NDArray[Any], item: Any) -> Any:
    return array.ctypes.data_as(ctypes.POINTER(item))
