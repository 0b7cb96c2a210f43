"""Read the header of a GGUF file (versions 2 and 3) in pure Python, within bounds.

The layout is that of the GGUF specification: magic, version, tensor and key-value counts, key-values, tensor records,
padding, data. What is checked is what the native loader would trust: counts, lengths, the product of dimensions, and
that every tensor lies inside the file. Nothing beyond the header is read.
"""

import struct
from math import prod
from typing import BinaryIO

import msgspec

from server.registry.probe.base import BrokenModel, NotMine
from server.registry.probe.gguf_types import ARRAY, BLOCKS, REMOVED, SCALARS, STRING
from server.registry.probe.source import HeaderReader

MAGIC = b"GGUF"
MAX_COUNT = 65_536
MAX_DIMENSIONS = 4
MAX_NAME = 1024
MAX_KEY = 65_535  # the specification's bound
MAX_ARRAY = 1 << 28
KEPT_TEXT = 64 * 1024
KEPT_ARRAY = 4096
KEPT_BYTES = 8 * 1024 * 1024
DEFAULT_ALIGNMENT = 32

Value = str | int | float | bool | list[int]


class GgufTensor(msgspec.Struct, frozen=True):
    """A tensor record. `dims[0]` is the row length; `size` in bytes is 0 when the type is not known here."""

    name: str
    dims: tuple[int, ...]
    type: int
    offset: int
    size: int

    @property
    def elements(self) -> int:
        """Return how many weights it has."""
        return prod(self.dims)


class GgufHeader(msgspec.Struct, frozen=True, kw_only=True):
    """Key-values and tensor records.

    `values` holds scalars, strings up to 4 KiB and number arrays up to 4096 entries; `lengths` the length of every
    array; `present` the keys whose values were too long to keep.
    """

    version: int
    values: dict[str, Value]
    lengths: dict[str, int]
    present: frozenset[str]
    tensors: tuple[GgufTensor, ...]
    data_start: int

    def has(self, key: str) -> bool:
        """Tell whether the header has this key, kept or not."""
        return key in self.values or key in self.present or key in self.lengths

    def integer(self, key: str) -> int:
        """Return a number, 0 when it is missing or is none; the mean of an array, rounded up."""
        value = self.values.get(key)
        if isinstance(value, list):
            return -(-sum(value) // len(value)) if value else 0
        return value if isinstance(value, int) and not isinstance(value, bool) else 0

    def text(self, key: str) -> str:
        """Return a string, empty when it is missing or is none."""
        value = self.values.get(key)
        return value if isinstance(value, str) else ""


def read_gguf(file: BinaryIO, size: int) -> GgufHeader:
    """Return the header of an open file of `size` bytes; blocks only for reading it.

    Raises:
        NotMine: it does not begin with the GGUF magic.
        BrokenModel: the header is damaged, hostile or of a version that nobody loads; the file is cut short.
    """
    reader = HeaderReader(file, size)
    if size < len(MAGIC) or reader.take(len(MAGIC)) != MAGIC:
        raise NotMine("not a GGUF file")
    version = _version(reader.u32())
    tensor_count, value_count = reader.u64(), reader.u64()
    if tensor_count > MAX_COUNT or value_count > MAX_COUNT:
        raise BrokenModel(
            f"the header promises {tensor_count} tensors and {value_count} keys; {MAX_COUNT} is the limit"
        )
    keys = _KeyValues(reader)
    for _ in range(value_count):
        keys.read_one()
    alignment = keys.alignment()
    records = [_record(reader) for _ in range(tensor_count)]
    start = -(-reader.position // alignment) * alignment
    header = GgufHeader(
        version=version,
        values=keys.values,
        lengths=keys.lengths,
        present=frozenset(keys.present),
        tensors=tuple(records),
        data_start=start,
    )
    _check_places(header, alignment, size)
    return header


def _version(version: int) -> int:
    if version == 1:
        raise BrokenModel("GGUF version 1 is no longer read by llama.cpp; convert the file anew")
    if version in (2, 3):
        return version
    if version & 0xFFFF == 0:
        raise BrokenModel("the file is big-endian; only little-endian GGUF can be loaded")
    raise BrokenModel(f"GGUF version {version} is not known")


class _KeyValues:
    """Takes in key-values and keeps the small ones."""

    def __init__(self, reader: HeaderReader) -> None:
        self._reader = reader
        self._kept = 0
        self.values: dict[str, Value] = {}
        self.lengths: dict[str, int] = {}
        self.present: set[str] = set()

    def read_one(self) -> None:
        key = self._reader.text(MAX_KEY)
        if self._known(key):
            raise BrokenModel(f"the key {key[:80]!r} occurs twice in the header")
        kind = self._reader.u32()
        if kind == ARRAY:
            self._array(key)
        elif kind == STRING:
            self._string(key)
        elif kind in SCALARS:
            form = SCALARS[kind]
            self._keep(key, struct.unpack(form, self._reader.take(struct.calcsize(form)))[0], 32)
        else:
            raise BrokenModel(f"the key {key[:80]!r} has a value of unknown type {kind}")

    def alignment(self) -> int:
        value = self.values.get("general.alignment", DEFAULT_ALIGNMENT)
        if not isinstance(value, int) or not 0 < value <= 1 << 20 or value & (value - 1):
            raise BrokenModel("general.alignment is not a power of two")
        return value

    def _known(self, key: str) -> bool:
        return key in self.values or key in self.lengths or key in self.present

    def _keep(self, key: str, value: Value, cost: int) -> None:
        self._kept += len(key) + cost
        if self._kept > KEPT_BYTES:
            raise BrokenModel("the header holds more values than any model has")
        self.values[key] = value

    def _string(self, key: str) -> None:
        raw = self._reader.raw_text()
        if len(raw) > KEPT_TEXT:
            self.present.add(key)
        else:
            self._keep(key, raw.decode("utf-8", errors="replace"), len(raw))

    def _array(self, key: str) -> None:
        kind, count = self._reader.u32(), self._reader.u64()
        if count > MAX_ARRAY:
            raise BrokenModel(f"the array {key[:80]!r} has {count} entries; {MAX_ARRAY} is the limit")
        self.lengths[key] = count
        if kind == STRING:
            if count * 8 > self._reader.left:
                raise BrokenModel(f"the array {key[:80]!r} is longer than the file")
            self._reader.skip_texts(count)
        elif kind in SCALARS:
            self._numbers(key, SCALARS[kind], count)
        else:
            raise BrokenModel(f"the array {key[:80]!r} has entries of unknown type {kind}")

    def _numbers(self, key: str, form: str, count: int) -> None:
        width = struct.calcsize(form)
        if count > KEPT_ARRAY or form[1] in "fd?":
            self._reader.skip(count * width)
            return
        data = self._reader.take(count * width)
        self._keep(key, list(struct.unpack(f"<{count}{form[1]}", data)), 8 * count)


def _record(reader: HeaderReader) -> GgufTensor:
    name = reader.text(MAX_NAME)
    count = reader.u32()
    if count > MAX_DIMENSIONS:
        raise BrokenModel(f"the tensor {name[:80]!r} has {count} dimensions; {MAX_DIMENSIONS} is the limit")
    dims = tuple(reader.u64() for _ in range(count)) or (1,)
    kind, offset = reader.u32(), reader.u64()
    if 0 in dims or prod(dims) >= 1 << 63:
        raise BrokenModel(f"the tensor {name[:80]!r} has an impossible shape")
    if kind in REMOVED:
        raise BrokenModel(f"the tensor {name[:80]!r} has a type that llama.cpp has removed; quantise the model anew")
    block = BLOCKS.get(kind)
    if block is None:
        return GgufTensor(name, dims, kind, offset, 0)
    if dims[0] % block.weights:
        raise BrokenModel(f"the rows of tensor {name[:80]!r} are not whole blocks of {block.name}")
    return GgufTensor(name, dims, kind, offset, prod(dims) // block.weights * block.size)


def _check_places(header: GgufHeader, alignment: int, size: int) -> None:
    """Refuse tensors outside the file, over each other, unaligned, or of one name."""
    if len({tensor.name for tensor in header.tensors}) < len(header.tensors):
        raise BrokenModel("two tensors have the same name")
    end = 0
    for tensor in sorted(header.tensors, key=lambda record: record.offset):
        if tensor.offset % alignment:
            raise BrokenModel(f"the tensor {tensor.name[:80]!r} is not aligned to {alignment} bytes")
        if tensor.offset < end:
            raise BrokenModel(f"the tensor {tensor.name[:80]!r} lies over another one")
        end = tensor.offset + tensor.size
    if header.tensors and header.data_start + end > size:
        raise BrokenModel(f"the file is cut short: it has {size} bytes and needs {header.data_start + end}")
