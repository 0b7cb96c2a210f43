"""A file that is there whole or not at all: written without a name where the system can, else under a passing one.

A writer that is killed leaves nothing on such systems (Linux's O_TMPFILE); elsewhere it leaves a file that the next one
takes away, as it is no longer locked.
"""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from server.core.ggml.imports import LEFTOVER

MODE = 0o640


@contextmanager
def whole_file(path: Path, *, replace: bool = False) -> Iterator[BinaryIO]:
    """Give a file to write; it appears at `path` when the block ends well, on the disk, and else never.

    Another one that is there by then is left as it is, or taken away with `replace`.

    Raises:
        OSError: the file cannot be made or written.
    """
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        descriptor, passing = _open(path.parent, named=replace)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(descriptor)
                if passing is not None and replace:
                    passing.replace(path)
                else:
                    _name(descriptor, passing, path, folder)
        finally:
            if passing is not None:
                with contextlib.suppress(FileNotFoundError):
                    passing.unlink()
        os.fsync(folder)
    finally:
        os.close(folder)


def remove_leftovers(folder: Path) -> None:
    """Take away unfinished files that nobody writes any more."""
    for path in folder.glob(f".*{LEFTOVER}"):
        with contextlib.suppress(OSError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


def _open(folder: Path, *, named: bool) -> tuple[int, Path | None]:
    """Return an open file, and its passing name if it has one; that file is locked."""
    nameless = getattr(os, "O_TMPFILE", 0)
    if nameless and not named:  # a link cannot take the place of another file
        with contextlib.suppress(OSError):
            return os.open(folder, os.O_RDWR | nameless | os.O_CLOEXEC, MODE), None
    descriptor, name = tempfile.mkstemp(prefix=".", suffix=LEFTOVER, dir=folder)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor, Path(name)


def _name(descriptor: int, passing: Path | None, path: Path, folder: int) -> None:
    with contextlib.suppress(FileExistsError):
        if passing is None:
            # With a folder named by its descriptor Python follows the link, which is what makes this a name.
            os.link(f"/proc/self/fd/{descriptor}", path.name, dst_dir_fd=folder, follow_symlinks=True)
        else:
            os.link(passing, path)
