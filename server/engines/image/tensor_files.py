"""Files of named tensors: safetensors, and pickles of torch when they are allowed. Read lazily, never executed."""

import pickle
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open

from server.core.errors import LoadFailed
from server.engines.image.layouts.shapes import Shapes

PICKLE_STARTS = (b"PK", b"\x80")
"""First bytes of torch's files: a zip archive, and a bare pickle before torch 1.6."""

DAMAGED = (
    *(OSError, EOFError, RuntimeError, ValueError, KeyError, IndexError, TypeError, AttributeError),
    *(struct.error, SafetensorError),
)
"""What torch's reader is known to raise on files that are none of its own."""


class Tensors(Protocol):
    """An open file: the shapes of all its tensors, and one tensor at a time (on the CPU, in the file's dtype).

    `metadata` are the strings of its header, if it has one.
    """

    shapes: Shapes
    metadata: Mapping[str, str]

    def get(self, name: str) -> torch.Tensor:
        """Return one tensor; it may be a view of the mapped file, so it is never written to."""
        ...


class SafeTensors:
    """A safetensors file, mapped into memory."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self.shapes: Shapes = {name: tuple(handle.get_slice(name).get_shape()) for name in handle.keys()}  # noqa: SIM118
        self.metadata: Mapping[str, str] = handle.metadata() or {}

    def get(self, name: str) -> torch.Tensor:
        """Return one tensor as a view of the mapped file."""
        found: torch.Tensor = self._handle.get_tensor(name)
        return found


class LoadedTensors:
    """Tensors that are in memory already."""

    def __init__(self, tensors: dict[str, torch.Tensor]) -> None:
        self._tensors = tensors
        self.shapes: Shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        self.metadata: Mapping[str, str] = {}

    def get(self, name: str) -> torch.Tensor:
        """Return one tensor."""
        return self._tensors[name]


@contextmanager
def open_tensors(path: Path, *, allow_pickle: bool) -> Iterator[Tensors]:
    """Open a file of tensors.

    Raises:
        LoadFailed: the file is missing, damaged, of an unknown format, or a pickle while those are not allowed.
    """
    if is_pickle(path):
        yield LoadedTensors(flat(load_pickle(path, allow_pickle=allow_pickle)))
        return
    try:
        with safe_open(str(path), framework="pt", device="cpu") as handle:
            yield SafeTensors(handle)
    except SafetensorError as error:
        raise LoadFailed(f"{path.name} is no readable safetensors file: {error}") from error
    except OSError as error:
        raise LoadFailed(f"{path.name} cannot be read: {error.strerror or error}") from error


def is_pickle(path: Path) -> bool:
    """Tell by content, never by name, whether a file is one of torch's pickles; LoadFailed when it is unreadable.

    The header length of a safetensors file may begin with the same bytes, but its upper two are zero and "{" follows.
    """
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise LoadFailed(f"{path.name} cannot be read: {error.strerror or error}") from error
    return start.startswith(PICKLE_STARTS) and not (start[6:8] == b"\0\0" and start[8:9] == b"{")


def load_pickle(path: Path, *, allow_pickle: bool) -> dict[str, Any]:
    """Load a torch pickle with `weights_only`, which runs no code of the file.

    Raises:
        LoadFailed: pickles are not allowed, or the file holds more than tensors and plain values.
    """
    if not allow_pickle:
        raise LoadFailed(f"{path.name} is a pickle; allow such files in the configuration or convert it to safetensors")
    try:
        tree = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise LoadFailed(
            f"{path.name} holds more than tensors, so it is not loaded; convert it to safetensors"
        ) from error
    except DAMAGED as error:
        raise LoadFailed(f"{path.name} is no readable torch file ({type(error).__name__})") from error
    if isinstance(tree, torch.Tensor):
        return {"": tree}
    if not isinstance(tree, dict):
        raise LoadFailed(f"{path.name} holds no dictionary of tensors")
    return tree


def flat(tree: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Return the tensors of a checkpoint's dictionary, which may stand one level down under `state_dict`."""
    inner = tree.get("state_dict")
    entries = inner if isinstance(inner, dict) else tree
    return {name: value for name, value in entries.items() if isinstance(value, torch.Tensor) and isinstance(name, str)}
