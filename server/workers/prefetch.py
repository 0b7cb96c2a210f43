"""Reads a model's files into the page cache while the libraries of its engine are still being imported.

Importing takes seconds of the processor and none of the disk; reading a checkpoint is the other way round. And a file
read from its beginning to its end comes faster than one that is touched here and there through a map. Where the files
are in the cache already nothing is read: a copy of them would take a processor that the load can use.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

LARGEST_SHARE = 0.5
"""Share of the machine's memory that files may have to be read ahead; larger ones would push each other out."""

CHUNK = 8 * 1024 * 1024

PROBES = 64
"""Places of a file that are looked at to see whether it lies in the page cache."""

Read = Callable[[str], None]
Cached = Callable[[str], bool]


def read_ahead(path: str) -> None:
    """Read a whole file and keep nothing of it; a file that cannot be read is left to whoever needs it.

    Advice to the kernel (`POSIX_FADV_WILLNEED`) does not do: of 300 MB it brought 8.
    """
    buffer = bytearray(CHUNK)
    with contextlib.suppress(OSError), open(path, "rb", buffering=0) as file:  # noqa: PTH123 (unbuffered, by bytes)
        while file.readinto(buffer):
            pass


def is_cached(path: str) -> bool:
    """Tell whether a file lies in the page cache, by what is found there at some places; False where nobody tells."""
    probe = bytearray(1)
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 (unbuffered, by bytes)
            size = os.fstat(file.fileno()).st_size
            places = range(0, size, max(1, size // PROBES))
            return all(os.preadv(file.fileno(), [probe], place, os.RWF_NOWAIT) == 1 for place in places)
    except (OSError, AttributeError):
        return False


def prefetch(
    files: Iterable[str], *, memory: int | None = None, read: Read = read_ahead, cached: Cached = is_cached
) -> threading.Thread | None:
    """Read files ahead in a thread of its own, which is returned.

    None when they are too large, missing, none, or in the page cache already. `memory` is the machine's in bytes,
    None = ask.
    """
    wanted = list(files)
    try:
        size = sum(Path(file).stat().st_size for file in wanted)
    except OSError:
        return None
    total = _memory() if memory is None else memory
    if not 0 < size <= total * LARGEST_SHARE or all(map(cached, wanted)):
        return None

    def run() -> None:
        for file in wanted:
            read(file)

    thread = threading.Thread(target=run, name="prefetch", daemon=True)
    thread.start()
    return thread


def _memory() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 0
