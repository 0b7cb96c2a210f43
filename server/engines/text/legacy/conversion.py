"""Converts one model: rows are read, a few MiB at a time, repacked and written. All weights are never here at once."""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO, NamedTuple

import numpy as np

from server.core.ggml.checkpoint import Checkpoint, Tensor
from server.core.ggml.reading import GgmlError, Part, Record
from server.core.ggml.types import CONTAINERS, F32, Q4_0, Q4_1, target
from server.engines.text.legacy.gguf_file import GgufFile
from server.engines.text.legacy.metadata import metadata, origin
from server.engines.text.legacy.old_rows import Unclear, by_blocks, is_by_rows
from server.engines.text.legacy.pieces import tokens
from server.engines.text.legacy.repacking import Bytes, NotFinite, Repack, TooLarge, repacker, weights

logger = logging.getLogger(__name__)

CHUNK = 4 * 1024 * 1024
SAMPLED_ROWS = 64


class Source(NamedTuple):
    """The files of a model, open, with what their headers say together."""

    files: Sequence[BinaryIO]
    first: Part
    checkpoint: Checkpoint


def convert(source: Source, out: BinaryIO, name: str, report: Callable[[float], None]) -> None:
    """Write the model of a file `name` as GGUF to `out`; `report` is told the finished fraction.

    Raises:
        GgmlError: the vocabulary or the weights are damaged.
        OSError: a file cannot be read or written.
    """
    checkpoint = source.checkpoint
    vocabulary = tokens(source.first.pieces, checkpoint.hyper.vocabulary, trusted=checkpoint.version > 0)
    names = [tensor.name for tensor in checkpoint.tensors]
    dims = [1 if tensor.flat else 2 for tensor in checkpoint.tensors]
    made = GgufFile(out, metadata(checkpoint, vocabulary, name), names, dims)
    total = sum(record.size for tensor in checkpoint.tensors for record in tensor.records)
    done = 0
    widened = 0
    for tensor in checkpoint.tensors:
        report(done / total)
        widened += _write(source, tensor, made, out)
        done += sum(record.size for record in tensor.records)
    made.close()
    logger.info("%s: %s", name, origin(checkpoint))
    if widened:
        logger.warning("%s: %d tensors have scales beyond 16 bits and were written in float32", name, widened)


def _write(source: Source, tensor: Tensor, made: GgufFile, out: BinaryIO) -> bool:
    """Write one tensor; tell whether it had to become float32."""
    version = source.checkpoint.version
    dims = [tensor.columns] if tensor.flat else [tensor.columns, tensor.rows]
    made.begin(tensor.name, dims, target(tensor.code, tensor.columns))
    try:
        try:
            repack = repacker(tensor.code, version, tensor.columns)
            for rows in _rows(source, tensor, repack):
                out.write(rows.data)
            return False
        except TooLarge:
            made.again(tensor.name, F32)
            for rows in _rows(source, tensor, lambda blocks: _widened(blocks, tensor.code, version)):
                out.write(rows.data)
            return True
    except NotFinite:
        raise GgmlError(
            f"the tensor {tensor.name!r} has a scale that is no finite number; the file is damaged"
        ) from None
    except Unclear:
        raise GgmlError(f"the scales of tensor {tensor.name!r} make no sense; the file is damaged") from None


def _widened(blocks: Bytes, code: int, version: int) -> Bytes:
    values = weights(blocks, code, version)
    if not np.isfinite(values).all():
        raise NotFinite
    return values.astype("<f4").view(np.uint8)


def _rows(source: Source, tensor: Tensor, repack: Repack | None) -> Iterator[Bytes]:
    """Yield rows [n, bytes] of the whole tensor, converted, from its first to its last."""
    readers = [
        _TensorReader(file, record, source.checkpoint, repack)
        for file, record in zip(source.files, tensor.records, strict=False)
    ]
    if not tensor.by_columns or len(readers) == 1:
        for reader in readers:
            for start, count in reader.batches():
                yield reader.read(start, count)
        return
    for start, count in readers[0].batches():
        yield np.ascontiguousarray(np.concatenate([reader.read(start, count) for reader in readers], axis=1))


class _TensorReader:
    """Reads rows of one tensor from one file and repacks them."""

    def __init__(self, file: BinaryIO, record: Record, checkpoint: Checkpoint, repack: Repack | None) -> None:
        self._file = file
        self._record = record
        self._repack = repack
        self._row = record.size // record.rows
        self._block = CONTAINERS[checkpoint.container, checkpoint.version][record.code].size
        self._apart = checkpoint.version == 0 and record.code in (Q4_0, Q4_1) and self._is_by_rows()

    def batches(self) -> Iterator[tuple[int, int]]:
        """Yield the first row and the number of rows of pieces that fit into memory easily."""
        step = max(1, CHUNK // self._row)
        for start in range(0, self._record.rows, step):
            yield start, min(step, self._record.rows - start)

    def read(self, start: int, count: int) -> Bytes:
        """Return rows [count, bytes] from row `start` on, converted."""
        rows = self._raw(start, count)
        if self._repack is None:
            return rows
        blocks = by_blocks(rows, self._record.code) if self._apart else rows.reshape(-1, self._block)
        return np.ascontiguousarray(self._repack(blocks).reshape(count, -1))

    def _is_by_rows(self) -> bool:
        step = max(1, self._record.rows // SAMPLED_ROWS)
        starts = range(0, self._record.rows, step)
        return is_by_rows(np.concatenate([self._raw(start, 1) for start in starts]), self._record.code)

    def _raw(self, start: int, count: int) -> Bytes:
        rows = np.empty((count, self._row), np.uint8)
        self._file.seek(self._record.offset + start * self._row)
        view = rows.data.cast("B")
        while view:
            got = self._file.readinto(view)  # type: ignore[attr-defined]
            if not got:
                raise GgmlError("the file became shorter while it was read")
            view = view[got:]
        return rows
