"""Keeps the C library from handing memory back to the system after every array operation.

A row of logits is some hundred kilobytes. glibc gives blocks of that size back at once and gets them anew, page by
page, for the next one; the page faults then cost several times what the operation itself does.
"""

import contextlib
import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEPT, _LARGE = 128 << 20, 32 << 20


def keep_freed_memory() -> None:
    """Let this process reuse freed blocks below 32 MiB, up to 128 MiB of them; does nothing where there is no glibc."""
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_MMAP_THRESHOLD, _LARGE)
        library.mallopt(_TRIM_THRESHOLD, _KEPT)
