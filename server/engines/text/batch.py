"""The arrays of one `llama_decode` call as numpy views, so that filling them costs no ctypes access per token."""

import ctypes
from collections.abc import Sequence
from typing import Any, Protocol

import llama_cpp
import numpy as np
import numpy.typing as npt

SCORED_ROWS = 32
"""How many outputs a step may have on top of one for each sequence: 20 MB of logits at 150,000 tokens."""


class Computable(Protocol):
    """What one `llama_decode` takes: `size` tokens or embeddings, of which `outputs` give results."""

    native: Any
    size: int
    outputs: int


class Batch:
    """Room for `capacity` tokens, each of exactly one sequence; filled anew for every call.

    Tokens must be added in ascending order of their sequence: llama.cpp splits the batch wherever the number does not
    grow by one.
    """

    def __init__(self, capacity: int) -> None:
        self._tokens = np.zeros(capacity, np.int32)
        self._positions = np.zeros(capacity, np.int32)
        self._counts = np.ones(capacity, np.int32)
        self._sequences = np.zeros(capacity, np.int32)
        self._outputs = np.zeros(capacity, np.int8)
        item = self._sequences.itemsize
        self._pointers = self._sequences.ctypes.data + item * np.arange(capacity, dtype=np.uintp)
        self.capacity = capacity
        self.size = 0
        self.outputs = 0
        self.native = llama_cpp.llama_batch(
            n_tokens=0,
            token=_pointer(self._tokens, llama_cpp.llama_token),
            embd=None,
            pos=_pointer(self._positions, llama_cpp.llama_pos),
            n_seq_id=_pointer(self._counts, ctypes.c_int32),
            seq_id=ctypes.cast(self._pointers.ctypes.data, ctypes.POINTER(ctypes.POINTER(llama_cpp.llama_seq_id))),
            logits=_pointer(self._outputs, ctypes.c_int8),
        )

    def clear(self) -> None:
        """Make the batch empty."""
        self.size = self.outputs = 0
        self.native.n_tokens = 0

    def add_prompt(self, sequence: int, start: int, tokens: npt.NDArray[np.int32], *, outputs: int) -> None:
        """Append tokens [n] of one prompt from position `start`; `outputs` asks for results of so many last ones."""
        begin, end = self.size, self.size + len(tokens)
        if end > self.capacity:
            raise ValueError(f"a batch of {self.capacity} tokens cannot take {end}")
        self._tokens[begin:end] = tokens
        self._positions[begin:end] = np.arange(start, start + len(tokens), dtype=np.int32)
        self._sequences[begin:end] = sequence
        self._outputs[begin:end] = 0
        self._outputs[end - outputs : end] = 1
        self.outputs += outputs
        self.size = self.native.n_tokens = end

    def set_next(self, sequences: Sequence[int], positions: Sequence[int], tokens: Sequence[int]) -> None:
        """Replace the content by one token of each sequence [n], all with logits."""
        count = len(tokens)
        self._tokens[:count] = tokens
        self._positions[:count] = positions
        self._sequences[:count] = sequences
        self._outputs[:count] = 1
        self.size = self.outputs = self.native.n_tokens = count


def _pointer(array: npt.NDArray[Any], item: Any) -> Any:
    return array.ctypes.data_as(ctypes.POINTER(item))
