"""SHA-256 of whole model files: computed once, remembered until the file changes."""

import asyncio
import hashlib
import logging
import os
import threading
from pathlib import Path

import msgspec

from server.registry.statefile import read_state, write_state

logger = logging.getLogger(__name__)

CHUNK = 8 * 1024 * 1024


class _Known(msgspec.Struct, frozen=True):
    size: int
    mtime_ns: int
    sha256: str


class HashCache:
    """Remembers hashes by path, size and modification time, in a file if one is given. Safe to use from threads.

    `version` grows with every new hash, so that readers see when what they built is old.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._known = read_state(file, dict[str, _Known]) or {}
        self._lock = threading.Lock()
        self._running: dict[str, asyncio.Task[str | None]] = {}
        self._closed = threading.Event()
        self.version = 0

    def known(self, path: Path | str) -> str | None:
        """Return the hash of the file as it is now, None when it was not computed."""
        try:
            status = os.stat(path)  # noqa: PTH116 (called for every card; a Path is built for nothing)
        except OSError:
            return None
        return self.lookup(str(path), status.st_size, status.st_mtime_ns)

    def lookup(self, path: str, size: int, mtime_ns: int) -> str | None:
        """Return the hash that was computed of a file of this path, size and modification time."""
        entry = self._known.get(path)
        return entry.sha256 if entry is not None and (entry.size, entry.mtime_ns) == (size, mtime_ns) else None

    async def compute(self, path: Path | str) -> str | None:
        """Return the hash, reading the file in a thread if need be; None when it cannot be read or after `close`.

        Two who ask for one file at once share the reading.
        """
        name = str(path)
        found = self.known(name)
        if found is not None:
            return found
        task = self._running.get(name)
        if task is None:
            task = asyncio.create_task(asyncio.to_thread(self.compute_now, name), name=f"hash {name}")
            self._running[name] = task
            task.add_done_callback(lambda _: self._running.pop(name, None))
        return await asyncio.shield(task)

    def compute_now(self, path: str) -> str | None:
        """Return the hash; blocks while the file is read."""
        try:
            with open(path, "rb", buffering=0) as file:  # noqa: PTH123
                before = os.fstat(file.fileno())
                digest = hashlib.sha256()
                while chunk := file.read(CHUNK):
                    if self._closed.is_set():
                        return None
                    digest.update(chunk)
                after = os.fstat(file.fileno())
        except OSError as error:
            logger.warning("file=%s could not be hashed: %s", path, error.strerror)
            return None
        if (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns):
            self.remember(path, after.st_size, after.st_mtime_ns, digest.hexdigest())
        return digest.hexdigest()

    def remember(self, path: str, size: int, mtime_ns: int, sha256: str) -> None:
        """Note a hash that is known from elsewhere (a verified download)."""
        with self._lock:
            self._known = {**self._known, path: _Known(size, mtime_ns, sha256)}
            self.version += 1
            write_state(self._file, self._known)

    def close(self) -> None:
        """Let running computations end early, so that the process can."""
        self._closed.set()
