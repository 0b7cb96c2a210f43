"""Read the header of one file of 2023: magic, hyper-parameters, vocabulary and tensor records. No weight is read.

All numbers are little-endian and 32 bits wide. Whatever is read is bounded before room is made for it, since the file
may come from anybody.
"""

import io
import re
import struct
from collections.abc import Iterator
from math import prod
from typing import BinaryIO, NamedTuple

import msgspec

from server.core.ggml.types import CONTAINERS, FILE_TYPES, Kind

MAGICS = {b"lmgg": "ggml", b"fmgg": "ggmf", b"tjgg": "ggjt"}
"""The first four bytes on disk: a little-endian number whose letters read backwards."""

ADAPTER = b"algg"
OTHER_VERSIONS = frozenset({100, 101})  # ggmf of RWKV

MOST_PIECES = 1_000_000
LONGEST_PIECE = 4096
MOST_TEXT = 64 * 1024 * 1024
MOST_TENSORS = 8192
LONGEST_NAME = 256
LONGEST_SIDE = 1 << 22
ALIGNMENT = 32

_BOUNDS = {"vocabulary": MOST_PIECES, "width": 65_536, "heads": 1024, "layers": 512}
_HEADER = struct.Struct("<7i")
_CHUNK = 256 * 1024
_LOOKED_THROUGH = 8 * 1024 * 1024
_KNOWN_NAME = re.compile(rb"(tok_embeddings|norm|output|layers\.\d+\.[a-z0-9_.]+)\.weight")

_OTHERS = (
    (b"gpt_neox.", "a GPT-NeoX model (StableLM, Dolly, RedPajama ...)"),
    (b"transformer.blocks.", "an MPT model"),
    (b"transformer.word_embeddings", "a Falcon or BLOOM model"),
    (b"transformer.h.", "a GPT-J or GPT-2 model"),
    (b"transformer.wte", "a GPT-J, GPT-2 or MPT model"),
    (b"model/wte", "a GPT-2 or StarCoder model"),
    (b"blocks.0.", "an RWKV model"),
)
"""How the tensors of models are called whose files begin alike."""


class GgmlError(Exception):
    """The file cannot be converted; the text says why, without the file's name."""


class Hyper(NamedTuple):
    """The numbers of a header, in its order. `file_type` is a hint; `multiple` and `rotary` are of no use."""

    vocabulary: int
    width: int
    multiple: int
    heads: int
    layers: int
    rotary: int
    file_type: int


class Piece(NamedTuple):
    """An entry of the vocabulary: raw text, and its score if the container has scores."""

    text: bytes
    score: float | None


class Record(NamedTuple):
    """Where a tensor lies. `columns` is the length of a row; `offset` and `size` are bytes of the file."""

    name: str
    code: int
    columns: int
    rows: int
    offset: int
    size: int


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What one file's header says.

    `pieces` is one shorter than the header promises where the last entry is missing, as in some files that were trained
    with a pad token. `records` are in the order of the file; `flat` names those with one dimension.
    """

    container: str
    version: int
    hyper: Hyper
    pieces: tuple[Piece, ...]
    records: tuple[Record, ...]
    flat: frozenset[str]

    @property
    def label(self) -> str:
        """Return what the container is called: `ggml`, `ggmf v1`, `ggjt v3`."""
        return f"{self.container} v{self.version}" if self.version else self.container


def read_part(file: BinaryIO, size: int) -> Part:
    """Return what the header of an open file of `size` bytes says; `file` stays open.

    Raises:
        GgmlError: it is of another kind or version, damaged, cut short or hostile; it holds no llama model.
    """
    reader = _Reader(file, size)
    try:
        return _read(reader)
    except GgmlError as error:
        other = _other_model(file)
        if not other:
            raise
        raise GgmlError(f"it holds {other}; only models of the llama family are converted") from error
    finally:
        reader.detach()


def _read(reader: "_Reader") -> Part:
    container, version = _container(reader)
    kinds = CONTAINERS[container, version]
    hyper = Hyper(*_HEADER.unpack(reader.take(_HEADER.size)))
    _check(hyper)
    pieces = tuple(_pieces(reader, hyper.vocabulary, scored=version > 0, kinds=kinds))
    records: list[Record] = []
    flat: set[str] = set()
    names: set[str] = set()
    while reader.left:
        record, dimensions = _record(reader, kinds, aligned=container == "ggjt")
        if record.name in names:
            raise GgmlError(f"the tensor {record.name!r} is there twice")
        names.add(record.name)
        records.append(record)
        if dimensions == 1:
            flat.add(record.name)
        if len(records) > MOST_TENSORS:
            raise GgmlError(f"it holds more than {MOST_TENSORS} tensors")
    return Part(
        container=container,
        version=version,
        hyper=hyper,
        pieces=pieces,
        records=tuple(records),
        flat=frozenset(flat),
    )


def _container(reader: "_Reader") -> tuple[str, int]:
    name = MAGICS.get(reader.take(4))
    if name is None:
        raise GgmlError("it is no ggml, ggmf or ggjt file")
    version = 0 if name == "ggml" else reader.number()
    if (name, version) not in CONTAINERS:
        raise GgmlError(f"{name} version {version} is not known")
    return name, version


def _check(hyper: Hyper) -> None:
    for field, most in _BOUNDS.items():
        value = getattr(hyper, field)
        if not 1 <= value <= most:
            raise GgmlError(f"the header names {value} as the model's {field}; it is no llama model, or damaged")
    if hyper.width % hyper.heads or hyper.width // hyper.heads % 2:
        raise GgmlError(f"a width of {hyper.width} cannot be shared by {hyper.heads} heads")
    if hyper.file_type not in FILE_TYPES:
        raise GgmlError(f"the header's file type {hyper.file_type} is none of llama's")


def _pieces(reader: "_Reader", count: int, *, scored: bool, kinds: dict[int, Kind]) -> Iterator[Piece]:
    total = 0
    for index in range(count):
        if index == count - 1 and _is_record(reader.ahead(20 + LONGEST_NAME), kinds):
            return
        length = reader.number()
        total += length
        if not 0 <= length <= LONGEST_PIECE or total > MOST_TEXT:
            raise GgmlError(f"the vocabulary does not read: entry {index} would have {length} bytes")
        text = reader.take(length)
        yield Piece(text, reader.fraction() if scored else None)


def _is_record(data: bytes, kinds: dict[int, Kind]) -> bool:
    """Tell whether a tensor record begins here: some files lack the last entry of their vocabulary."""
    if len(data) < 16:
        return False
    dimensions, length, code = struct.unpack_from("<3i", data)
    if dimensions not in (1, 2) or code not in kinds or not 4 <= length <= LONGEST_NAME:
        return False
    begin = 12 + 4 * dimensions
    return _KNOWN_NAME.fullmatch(data[begin : begin + length]) is not None


def _record(reader: "_Reader", kinds: dict[int, Kind], *, aligned: bool) -> tuple[Record, int]:
    dimensions, length, code = (reader.number() for _ in range(3))
    if dimensions not in (1, 2) or not 1 <= length <= LONGEST_NAME:
        raise GgmlError(f"no tensor begins at byte {reader.position - 12}; the file is damaged")
    sides = [reader.number() for _ in range(dimensions)]
    name = reader.take(length).decode("ascii", errors="backslashreplace")
    kind = kinds.get(code)
    if kind is None:
        raise GgmlError(f"the tensor {name!r} has the type {code}, which such files do not have")
    if not all(1 <= side <= LONGEST_SIDE for side in sides):
        raise GgmlError(f"the tensor {name!r} has an impossible shape: {sides}")
    if sides[0] % kind.weights:
        raise GgmlError(f"the rows of tensor {name!r} are not whole blocks of {kind.name}")
    if aligned:
        reader.skip(-reader.position % ALIGNMENT)
    size = prod(sides) // kind.weights * kind.size
    record = Record(name, code, sides[0], prod(sides[1:]), reader.position, size)
    reader.skip(size)
    return record, dimensions


def _other_model(file: BinaryIO) -> str:
    """Return what a file that is no llama model holds, by names of tensors near its beginning; empty if unknown."""
    file.seek(0)
    data = file.read(_LOOKED_THROUGH) or b""
    if b"tok_embeddings.weight" in data:
        return ""
    return next((model for name, model in _OTHERS if name in data), "")


class _Reader:
    """Fields of a file of `size` bytes in order; each method raises GgmlError where the file ends too early."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        file.seek(0)
        self._file = io.BufferedReader(file, _CHUNK)  # type: ignore[type-var]
        self._size = size
        self.position = 0

    @property
    def left(self) -> int:
        return self._size - self.position

    def take(self, count: int) -> bytes:
        self._must_hold(count)
        data = self._file.read(count)
        if len(data) != count:
            raise GgmlError("the file became shorter while it was read")
        self.position += count
        return data

    def ahead(self, count: int) -> bytes:
        data = self._file.read(min(count, self.left))
        self._file.seek(self.position)
        return data

    def skip(self, count: int) -> None:
        self._must_hold(count)
        if count:
            self.position += count
            self._file.seek(self.position)

    def number(self) -> int:
        return int.from_bytes(self.take(4), "little", signed=True)

    def fraction(self) -> float:
        return float(struct.unpack("<f", self.take(4))[0])

    def detach(self) -> None:
        self._file.detach()

    def _must_hold(self, count: int) -> None:
        if count > self.left:
            needed = self.position + count
            raise GgmlError(f"the file is cut short: it has {self._size} bytes and needs at least {needed}")
