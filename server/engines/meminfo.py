"""What the system tells of its memory (Linux: proc_meminfo(5), proc_pid_statm(5)). Needs no torch."""

import os
from pathlib import Path
from typing import Literal

Line = Literal["MemAvailable", "MemTotal"]


def meminfo(name: Line, source: Path = Path("/proc/meminfo")) -> int | None:
    """Return one figure in bytes; None where the system does not tell."""
    try:
        lines = source.read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
    except (OSError, ValueError, IndexError, StopIteration):
        return None


def process_bytes() -> int:
    """Return the resident size of this process, 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGESIZE")
