"""Open model files without ever hanging, and read their headers without ever leaving the file."""

import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from server.registry.probe.base import BrokenModel, NotMine

CHUNK = 256 * 1024
MAX_STRING = 16 * 1024 * 1024

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")


@contextmanager
def open_regular(path: Path) -> Iterator[tuple[BinaryIO, os.stat_result]]:
    """Open a regular file for reading and give it with its status; a FIFO or device is refused without blocking.

    Raises:
        NotMine: it is not a regular file.
        BrokenModel: it cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise BrokenModel(f"cannot be opened: {error.strerror}") from error
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise NotMine("not a regular file")
        yield file, status


def read_exactly(file: BinaryIO, count: int) -> bytes:
    """Return the next `count` bytes; raise BrokenModel when the file ends before or cannot be read."""
    parts: list[bytes] = []
    left = count
    while left:
        try:
            data = file.read(min(left, 1 << 26))
        except OSError as error:
            raise BrokenModel(f"cannot be read: {error.strerror}") from error
        if not data:
            raise BrokenModel("the file ends within its header")
        parts.append(data)
        left -= len(data)
    return b"".join(parts)


class HeaderReader:
    """Little-endian fields of a header in order, from a file of `size` bytes; reads ahead in chunks.

    Every method raises BrokenModel where the file ends too early.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size
        self._base = 0  # where in the file the buffer starts
        self._at = 0  # next byte in the buffer
        self._buffer = b""

    @property
    def position(self) -> int:
        """Return the offset of the next byte in the file."""
        return self._base + self._at

    @property
    def left(self) -> int:
        """Return how many bytes of the file follow."""
        return self._size - self.position

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes."""
        self._fill(count)
        data = self._buffer[self._at : self._at + count]
        self._at += count
        return data

    def skip(self, count: int) -> None:
        """Leave out `count` bytes without reading them."""
        if count > self.left:
            raise BrokenModel("the file ends within its header")
        if self._at + count <= len(self._buffer):
            self._at += count
        else:
            self._move(self.position + count)

    def u32(self) -> int:
        """Return an unsigned 32-bit number."""
        return int(_U32.unpack(self.take(4))[0])

    def u64(self) -> int:
        """Return an unsigned 64-bit number."""
        return int(_U64.unpack(self.take(8))[0])

    def text(self, limit: int = MAX_STRING) -> str:
        """Return a string with a 64-bit length before it; wrong UTF-8 is replaced."""
        return self.raw_text(limit).decode("utf-8", errors="replace")

    def raw_text(self, limit: int = MAX_STRING) -> bytes:
        """Return the bytes of a string with a 64-bit length before it."""
        length = self.u64()
        if length > limit:
            raise BrokenModel(f"a string of {length} bytes in the header is over the limit of {limit}")
        return self.take(length)

    def skip_texts(self, count: int) -> None:
        """Leave out `count` strings. One tight loop: vocabularies have several hundred thousand."""
        unpack = _U64.unpack_from
        while count:
            self._fill(8)
            buffer, at, end = self._buffer, self._at, len(self._buffer)
            while count and at + 8 <= end:
                length = unpack(buffer, at)[0]
                if length > MAX_STRING:
                    raise BrokenModel(f"a string of {length} bytes in the header is over the limit of {MAX_STRING}")
                at += 8 + length
                count -= 1
            self._at = min(at, end)
            self.skip(at - self._at)

    def _fill(self, count: int) -> None:
        """Have at least `count` bytes in the buffer."""
        have = len(self._buffer) - self._at
        if have >= count:
            return
        if count > self.left:
            raise BrokenModel("the file ends within its header")
        more = read_exactly(self._file, min(max(count - have, CHUNK), self._size - self._base - len(self._buffer)))
        self._base += self._at
        self._buffer = self._buffer[self._at :] + more
        self._at = 0

    def _move(self, position: int) -> None:
        self._file.seek(position)
        self._base, self._at, self._buffer = position, 0, b""
