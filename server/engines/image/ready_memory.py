"""Memory that weights are converted into, touched before a model needs it.

A process gets its memory when it first writes to it, cleared by the system, a page at a time. For 4 GB of weights that
costs more than reading and converting them (`bench/NOTES.md`). A spare worker has time for it: `ReadyMemory` touches
its pages in a thread until a load begins, which takes pieces of it for what it converts and gives back the rest.
"""

import contextlib
import mmap
import os
import threading
from collections.abc import Callable, Mapping
from functools import partial

import torch

from server.engines.meminfo import meminfo

Cast = Callable[[torch.Tensor], torch.Tensor]
"""Returns a tensor of a file in the dtype that it will run in."""

Available = Callable[[], int | None]
"""Returns the bytes of RAM that are free on this machine, None where nobody tells."""

ALIGNMENT = 64
"""Bytes of a line of the cache, the alignment that torch's own allocations have."""

PAGE = 4096
STRETCH = 16 * 1024 * 1024
"""Bytes that are touched before it is asked again whether to go on."""

LEFT_SHARE = 0.25
"""Share of the machine's memory that must stay free: files in the page cache live there."""

LOW_PRIORITY = 10
"""Niceness of the thread that touches pages: whoever computes goes first."""

PIECE_VALUES = 256 * 1024
"""Values that are converted by way of float32 at once, so that they stay in the processor's cache."""


def free_beyond_share() -> int | None:
    """Return the bytes of RAM that are free beyond the share that is left alone, None where nobody tells."""
    total, available = meminfo("MemTotal"), meminfo("MemAvailable")
    return None if total is None or available is None else available - int(total * LEFT_SHARE)


class ReadyMemory:
    """So many bytes for converted weights, 0 = none, then torch allocates. One thread only, but for its own."""

    def __init__(self, size: int = 0, *, available: Available = free_beyond_share) -> None:
        self._size = size
        self._used = 0
        self._touched = 0
        self._converted_from: dict[int, torch.dtype] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._map: mmap.mmap | None = _mapped(size) if size > 0 else None
        if self._map is not None:
            self._thread = threading.Thread(target=self._touch, args=(self._map, available), daemon=True)
            self._thread.start()

    @property
    def touched(self) -> int:
        """Return the bytes that the process holds for this now."""
        return self._touched

    @property
    def converted(self) -> Mapping[int, torch.dtype]:
        """Return of what was converted, by the new tensor's address, which dtype it had."""
        return dict(self._converted_from)

    def settle(self) -> None:
        """Touch no more: a load begins. What was not touched by now is when it is written to."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def cast(self, dtype: torch.dtype) -> Cast:
        """Return what turns the tensors of a file into this dtype."""
        return partial(self._converted, dtype=dtype)

    def release(self) -> None:
        """Give back what nobody took; what was taken lives as long as its tensors."""
        self.settle()
        rest, self._map = self._map, None
        self._touched = 0
        if rest is not None:
            start = -(-self._used // PAGE) * PAGE
            with contextlib.suppress(OSError, AttributeError, ValueError):  # not everywhere; the map then goes whole
                rest.madvise(mmap.MADV_DONTNEED, start, len(rest) - start)

    def _converted(self, source: torch.Tensor, *, dtype: torch.dtype) -> torch.Tensor:
        """Return a tensor in `dtype`: itself if it has it, else a new one; bfloat16 convolutions with channels last."""
        if source.dtype == dtype:
            return source
        is_turned = dtype == torch.bfloat16 and source.ndim == 4
        order = (0, 2, 3, 1) if is_turned else tuple(range(source.ndim))
        new = self._room(tuple(source.shape[side] for side in order), dtype)
        _copy(source.permute(order), new)
        self._converted_from[new.data_ptr()] = source.dtype
        return new.permute(0, 3, 1, 2) if is_turned else new

    def _room(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        count = torch.Size(shape).numel()
        start = -(-self._used // ALIGNMENT) * ALIGNMENT
        end = start + count * dtype.itemsize
        if self._map is None or count == 0 or end > self._size:
            return torch.empty(shape, dtype=dtype)
        self.settle()  # or the thread would write into what is given away
        self._used = end
        # A storage of its own for each tensor, which keeps the map alive.
        return torch.frombuffer(self._map, dtype=dtype, count=count, offset=start).view(shape)

    def _touch(self, place: mmap.mmap, available: Available) -> None:
        with contextlib.suppress(OSError, AttributeError):  # Linux, where a thread has a priority of its own
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOW_PRIORITY)
        pages = torch.frombuffer(place, dtype=torch.uint8)
        while self._touched < self._size and not self._stop.is_set():
            free = available()
            if free is not None and free < STRETCH:
                return
            end = min(self._touched + STRETCH, self._size)
            pages[self._touched : end : PAGE].zero_()
            self._touched = end


def _mapped(size: int) -> mmap.mmap | None:
    """Return so much memory that nobody has touched, None where the system gives none."""
    try:
        place = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, OverflowError, AttributeError):
        return None
    with contextlib.suppress(OSError, AttributeError):  # a kernel without large pages
        place.madvise(mmap.MADV_HUGEPAGE)
    return place


def _copy(source: torch.Tensor, target: torch.Tensor) -> None:
    """Convert one tensor into another of its shape.

    torch converts float16 to bfloat16 value by value; by way of float32 the same bits come out sooner.
    """
    if (source.dtype, target.dtype) != (torch.float16, torch.bfloat16) or source.ndim == 0:
        target.copy_(source)
        return
    rows = max(1, PIECE_VALUES * len(source) // max(1, source.numel()))
    for old, new in zip(source.split(rows), target.split(rows), strict=True):
        new.copy_(old.float())
