"""Writes a GGUF file (version 3) tensor by tensor: types and places of tensors are filled in when they are known."""

import struct
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple

U32, F32, BOOL, STRING, ARRAY, I32 = 4, 6, 7, 8, 9, 5
ALIGNMENT = 32
_FORMS = {U32: "<I", I32: "<i", F32: "<f", BOOL: "<?"}


class Value(NamedTuple):
    """A value of the header: its type, and for an array (`ARRAY`) the type of its entries."""

    kind: int
    value: Any
    entries: int = 0


class _Place(NamedTuple):
    dims: Sequence[int]
    code: int
    offset: int


class GgufFile:
    """Writes to an open file, from its beginning. A tensor goes from its `begin` to the next one's; `close` is last."""

    def __init__(self, file: BinaryIO, values: Mapping[str, Value], names: Sequence[str], dims: Sequence[int]) -> None:
        """Write the header; `dims` says how many dimensions each of the tensors `names` has."""
        self._file = file
        self._names = tuple(names)
        self._places: dict[str, _Place] = {}
        head = b"GGUF" + struct.pack("<IQQ", 3, len(names), len(values))
        head += b"".join(_text(key) + struct.pack("<I", each.kind) + _value(each) for key, each in values.items())
        self._infos_at = len(head)
        infos = sum(8 + len(name.encode()) + 4 + 8 * count + 12 for name, count in zip(names, dims, strict=True))
        self._data_at = _aligned(self._infos_at + infos)
        file.write(head + bytes(self._data_at - len(head)))

    def begin(self, name: str, dims: Sequence[int], code: int) -> None:
        """Begin a tensor with the row length first in `dims`; its data is written to the file by the caller."""
        end = _aligned(self._file.tell())
        self._file.write(bytes(end - self._file.tell()))
        self._places[name] = _Place(tuple(dims), code, end - self._data_at)

    def again(self, name: str, code: int) -> None:
        """Begin the tensor anew in another type: what was written of it is overwritten."""
        place = self._places[name]
        self._places[name] = place._replace(code=code)
        self._file.seek(self._data_at + place.offset)

    def close(self) -> None:
        """Fill in where everything lies. The file ends where the last tensor does; it stays open."""
        end = _aligned(self._file.tell())
        self._file.write(bytes(end - self._file.tell()))
        self._file.truncate()
        self._file.seek(self._infos_at)
        for name in self._names:
            place = self._places[name]
            info = _text(name) + struct.pack("<I", len(place.dims)) + struct.pack(f"<{len(place.dims)}Q", *place.dims)
            self._file.write(info + struct.pack("<IQ", place.code, place.offset))
        self._file.flush()


def _aligned(position: int) -> int:
    return -(-position // ALIGNMENT) * ALIGNMENT


def _value(value: Value) -> bytes:
    if value.kind == STRING:
        return _text(value.value)
    if value.kind != ARRAY:
        return struct.pack(_FORMS[value.kind], value.value)
    head = struct.pack("<IQ", value.entries, len(value.value))
    if value.entries == STRING:
        return head + b"".join(map(_text, value.value))
    return head + struct.pack(f"<{len(value.value)}{_FORMS[value.entries][1]}", *value.value)


def _text(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw
