"""Files that keep the cache of one sequence.

    what `llama_state_seq_save_file` writes | Label as msgpack | BLAKE2b-256 of all before | length of the label (u32)
    | MAGIC

llama.cpp reads as much as it wrote and trusts every byte of it, so its files are closed with a label that says whose
they are and a checksum; what has neither is not given to it. It can read our files, as it overlooks what follows.
"""

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import msgspec

from server.core.errors import InvalidValue
from server.engines.text.whole_file import remove_leftovers, whole_file

MAGIC = b"HEARTHKV"
_DIGEST = 32
_LENGTH = 4
_TAIL = _DIGEST + _LENGTH + len(MAGIC)
_LONGEST_LABEL = 1 << 16
_PIECE = 1 << 20


class Label(msgspec.Struct, frozen=True, kw_only=True):
    """Whose cache it is: the model's `Identity`, the name of the scope as SHA-256, and what it holds.

    `adapters` are those that acted, by name, with their scales.
    """

    identity: str
    scope: str
    tokens: int
    adapters: tuple[tuple[str, float], ...] = ()


def scope_digest(name: str) -> str:
    """Return what a label says of a scope: 64 hex digits, since its name may have a client's secret in it."""
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()


def write(path: Path, label: Label, dump: Callable[[str], int]) -> int:
    """Write a file, in place of another of that name, and return its bytes.

    Args:
        path: where it shall be; its folder is made if need be.
        label: whose it is.
        dump: writes a cache to the file of a name and returns how many bytes that took, 0 when it failed.

    Raises:
        OSError: it could not be written; what was there before is still there.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    remove_leftovers(path.parent)
    with whole_file(path, replace=True) as file:
        if not dump(f"/dev/fd/{file.fileno()}"):
            raise OSError("llama.cpp could not write the file")
        file.seek(0, os.SEEK_END)
        encoded = msgspec.msgpack.encode(label)
        file.write(encoded)
        file.flush()
        with open(f"/dev/fd/{file.fileno()}", "rb") as again:  # noqa: PTH123 (no place in a folder)
            digest = _digest(again, file.tell())
        file.write(digest + len(encoded).to_bytes(_LENGTH, "little") + MAGIC)
        return file.tell()


def label_of(path: Path) -> Label | None:
    """Return what a file says of itself, unchecked; None when it is none of ours or cannot be read."""
    try:
        with _opened(path) as file:
            return _label(file)[0]
    except (OSError, InvalidValue):
        return None


@contextmanager
def checked(path: Path) -> Iterator[tuple[str, Label, int]]:
    """Give the name under which a file can be read that is whole, its label, and how many bytes it has.

    Raises:
        InvalidValue: it is none of ours, or damaged.
        OSError: it cannot be read.
    """
    with _opened(path) as file:
        label, end = _label(file)
        file.seek(end)
        if file.read(_DIGEST) != _digest(file, end):
            raise _refused("it is damaged")
        file.seek(0)
        # The very file that was checked, whatever its name leads to by now.
        yield f"/dev/fd/{file.fileno()}", label, end + _TAIL


def _opened(path: Path) -> BinaryIO:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe of that name must not hold us up
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _refused("it is no file")
    return os.fdopen(descriptor, "rb")


def _label(file: BinaryIO) -> tuple[Label, int]:
    """Return the label of an open file and where the checksum stands behind it."""
    size = file.seek(0, os.SEEK_END)
    if size < _TAIL:
        raise _refused("it is no file of a slot")
    end = size - _TAIL
    file.seek(end + _DIGEST)
    tail = file.read()
    length = int.from_bytes(tail[:_LENGTH], "little")
    if tail[_LENGTH:] != MAGIC or length > min(end, _LONGEST_LABEL):
        raise _refused("it is no file of a slot, or only a part of one")
    file.seek(end - length)
    try:
        return msgspec.msgpack.decode(file.read(length), type=Label), end
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _refused("it is damaged") from None


def _digest(file: BinaryIO, count: int) -> bytes:
    """Return the checksum of the first `count` bytes."""
    digest = hashlib.blake2b(digest_size=_DIGEST)
    file.seek(0)
    while count > 0:
        piece = file.read(min(count, _PIECE))
        if not piece:
            break
        digest.update(piece)
        count -= len(piece)
    return digest.digest()


def _refused(why: str) -> InvalidValue:
    return InvalidValue.of("filename", f"Unable to restore slot: {why}")
