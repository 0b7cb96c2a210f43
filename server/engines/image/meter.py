"""What a job took: the highest point of the process (or of the device's memory) while it ran, beyond what stood before.

On Linux the mark of a process's highest resident size can be put back; where it cannot, nothing is told.
"""

import contextlib
from pathlib import Path

import torch

from server.core.memory import RAM, PoolId
from server.engines.image.placement import Placement

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")
RESET_PEAK = "5"
"""What proc(5) has for putting the highest resident size back to the current one."""


class Meter:
    """Measures one job at a time of a model in this process."""

    def __init__(self, placement: Placement, *, status: Path = STATUS, clear: Path = CLEAR) -> None:
        self._placement = placement
        self._status = status
        self._clear = clear
        self._standing: int | None = None

    def begin(self, standing: int) -> None:
        """Begin anew; `standing` is what the model holds all the time, in the pool where it runs."""
        self._standing = None
        if self._placement.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._placement.device)
            self._standing = standing
        elif self._placement.device.type == "cpu":
            with contextlib.suppress(OSError):
                self._clear.write_text(RESET_PEAK)
                self._standing = standing

    def end(self) -> dict[PoolId, int]:
        """Return what was taken since `begin`, by pool; empty where that is not known."""
        standing, self._standing = self._standing, None
        peak = self._peak() if standing is not None else None
        if standing is None or peak is None:
            return {}
        return {self._placement.pool if self._placement.device.type == "cuda" else RAM: max(1, peak - standing)}

    def _peak(self) -> int | None:
        if self._placement.device.type == "cuda":
            return torch.cuda.max_memory_reserved(self._placement.device)
        return _highest(self._status)


def _highest(status: Path) -> int | None:
    """Return the highest resident size in bytes, None where the system does not tell."""
    try:
        lines = status.read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration, ValueError, IndexError):
        return None
