"""Bounds what a piece of work may take of memory: what it asks for beyond that fails, and is freed when it ends.

Python says MemoryError where an allocation fails, and does so for one of a terabyte at once. So does every long call of
C that fills memory, which ends those that no clock could interrupt.
"""

import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

_STATUS = Path("/proc/self/statm")


class MemoryLimit:
    """Lets the address space of this process grow by `size` bytes within its `with` block. Usable once.

    The limit is the process's, so this is for work that nothing else allocates much beside. Without Linux's accounts
    it does nothing.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._before: tuple[int, int] | None = None

    def __enter__(self) -> Self:
        if sys.platform == "linux":
            import resource

            with suppress(OSError, ValueError):
                pages = int(_STATUS.read_text().split(maxsplit=1)[0])
                before = resource.getrlimit(resource.RLIMIT_AS)
                most = pages * resource.getpagesize() + self._size
                if before[0] == resource.RLIM_INFINITY or most < before[0]:
                    resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
                    self._before = before
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if sys.platform == "linux" and self._before is not None:
            import resource

            resource.setrlimit(resource.RLIMIT_AS, self._before)
