"""Which model it is whose cache lies in a file: what its numbers depend on, as a short text.

A model's file is gigabytes long, so it is not read whole: its size, its header and pieces from all over it tell it from
every other, also from one that was trained further.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from server.core.adapters import AdapterSet
from server.core.models import TextSettings
from server.core.text_settings import kv_types

_HEAD = 1 << 20
_PIECE = 1 << 14
_PIECES = 64
_POSITIONS = ("rope_scaling", "rope_frequency_base", "rope_frequency_scale", "yarn_original_context", "norm_epsilon")


class Identity:
    """Names a loaded model with the adapters that act. Files are read when a name is first asked for."""

    def __init__(self, files: Sequence[Path], settings: TextSettings, adapters: Mapping[int, Path]) -> None:
        """Take the model's files, how it was loaded, and the adapters' files by their place in its list."""
        self._files = tuple(files)
        self._settings = settings
        self._adapters = dict(adapters)
        self._samples: dict[Path, str] = {}

    def of(self, acting: AdapterSet) -> str:
        """Return the name of what computes under a set of adapters: 64 hex digits; raises OSError."""
        settings = self._settings
        projector = [Path(settings.mmproj)] if settings.mmproj not in ("", "none") else []
        parts = (
            [self._sample(file) for file in (*self._files, *projector)],
            kv_types(settings),
            [getattr(settings, key) for key in _POSITIONS],
            [(self._sample(self._adapters[number]), scale) for number, scale in acting],
        )
        return hashlib.sha256(msgspec.msgpack.encode(parts)).hexdigest()

    def _sample(self, file: Path) -> str:
        found = self._samples.get(file)
        if found is None:
            found = self._samples[file] = sample_of(file)
        return found


def sample_of(path: Path) -> str:
    """Return 64 hex digits made of a file's size, its first MiB and pieces of 16 KiB up to its end; raises OSError."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        digest = hashlib.sha256(size.to_bytes(8, "little"))
        digest.update(file.read(_HEAD))
        for number in range(1, _PIECES + 1):
            file.seek(max(0, size * number // _PIECES - _PIECE))
            digest.update(file.read(_PIECE))
    return digest.hexdigest()
