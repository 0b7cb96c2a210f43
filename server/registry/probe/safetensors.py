"""Read the header of a safetensors file: an 8-byte length, then JSON. No weight is read.

The rules are those of the library that loads the file later: offsets are in order, without gaps or overlaps, end where
the file ends, and agree with type and shape.
"""

from math import prod
from typing import Any, BinaryIO

import msgspec

from server.registry.probe.base import BrokenModel, NotMine
from server.registry.probe.source import read_exactly

MAX_HEADER = 100_000_000
MAX_METADATA_TEXT = 4 * 1024 * 1024
MAX_RANK = 16
LARGEST = 1 << 63

BITS: dict[str, int] = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E4M3": 8,
    "F8_E5M2": 8,
    "F8_E8M0": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "I64": 64,
    "U64": 64,
    "F64": 64,
    "C64": 64,
}


class Tensor(msgspec.Struct, frozen=True):
    """A tensor's type (`F16`, `BF16`, ...), shape and size in bytes."""

    dtype: str
    shape: tuple[int, ...]
    size: int


class SafetensorsHeader(msgspec.Struct, frozen=True):
    """All tensors by name, and the strings of `__metadata__`."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]


class _Entry(msgspec.Struct):
    """One member of the header object; `__metadata__` leaves all fields unset."""

    dtype: str | msgspec.UnsetType = msgspec.UNSET
    shape: list[int] | msgspec.UnsetType = msgspec.UNSET
    data_offsets: tuple[int, int] | msgspec.UnsetType = msgspec.UNSET


class _Metadata(msgspec.Struct, rename={"metadata": "__metadata__"}):
    metadata: dict[str, Any] | None = None


def looks_like_safetensors(head: bytes) -> bool:
    """Tell from the first 9 bytes whether a length and the start of a JSON object stand there."""
    return len(head) >= 9 and head[8:9] == b"{"


def read_safetensors(file: BinaryIO, size: int) -> SafetensorsHeader:
    """Return the header of an open file of `size` bytes.

    Raises:
        NotMine: it does not begin as a safetensors file does.
        BrokenModel: the header lies, is damaged, or the file is cut short.
    """
    if size < 9:
        raise NotMine("too short for a safetensors file")
    head = read_exactly(file, 9)
    if not looks_like_safetensors(head):
        raise NotMine("not a safetensors file")
    length = int.from_bytes(head[:8], "little")
    if length > MAX_HEADER:
        raise BrokenModel(f"the header claims {length} bytes; {MAX_HEADER} is the limit")
    if 8 + length > size:
        raise BrokenModel(f"the file is cut short: its header alone has {length} bytes, the file has {size}")
    raw = head[8:] + read_exactly(file, length - 1)
    entries, metadata = _decode(raw)
    tensors = _tensors(entries, size - 8 - length)
    return SafetensorsHeader(tensors, metadata)


def _decode(raw: bytes) -> tuple[dict[str, _Entry], dict[str, str]]:
    try:
        entries = msgspec.json.decode(raw, type=dict[str, _Entry])
        metadata = msgspec.json.decode(raw, type=_Metadata).metadata or {}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BrokenModel(f"the header is not what safetensors demands: {str(error)[:200]}") from error
    entries.pop("__metadata__", None)
    kept = {key: value for key, value in metadata.items() if isinstance(value, str)}
    if sum(len(key) + len(value) for key, value in kept.items()) > MAX_METADATA_TEXT:
        kept = {key: value for key, value in kept.items() if len(value) <= 4096}
    return entries, kept


def _tensors(entries: dict[str, _Entry], data_size: int) -> dict[str, Tensor]:
    placed: list[tuple[int, int, str, Tensor]] = []
    for name, entry in entries.items():
        begin, end, tensor = _tensor(name, entry)
        placed.append((begin, end, name, tensor))
    reached = 0
    for begin, end, name, _ in sorted(placed, key=lambda item: (item[0], item[1])):
        if begin != reached:
            problem = "over another one" if begin < reached else "behind a gap"
            raise BrokenModel(f"the tensor {name[:80]!r} lies {problem}")
        reached = end
    if reached > data_size:
        raise BrokenModel(f"the file is cut short: its tensors need {reached} bytes, {data_size} are there")
    if reached < data_size:
        raise BrokenModel(f"{data_size - reached} bytes follow the last tensor")
    return {name: tensor for _, _, name, tensor in placed}


def _tensor(name: str, entry: _Entry) -> tuple[int, int, Tensor]:
    dtype, shape, offsets = entry.dtype, entry.shape, entry.data_offsets
    if not isinstance(dtype, str) or not isinstance(shape, list) or not isinstance(offsets, tuple):
        raise BrokenModel(f"the tensor {name[:80]!r} lacks its type, shape or place")
    begin, end = offsets
    figures_fit = all(0 <= figure < LARGEST for figure in (begin, end, *shape))
    if not figures_fit or begin > end or len(shape) > MAX_RANK:
        raise BrokenModel(f"the tensor {name[:80]!r} has an impossible shape or place")
    bits = BITS.get(dtype)
    if bits is not None and prod(shape) * bits != (end - begin) * 8:
        raise BrokenModel(f"the tensor {name[:80]!r} has {end - begin} bytes, which do not fit {dtype} {shape[:8]}")
    return begin, end, Tensor(dtype, tuple(shape), end - begin)
