"""How many threads the computation gets: physical cores, since hyper-threads share the units that matrices need."""

import os
from pathlib import Path

_CPUS = Path("/sys/devices/system/cpu")
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def physical_cores() -> int:
    """Return the physical cores this process may use, at least 1; a container's CPU quota counts."""
    return max(1, min(_cores(), _quota()))


def _cores() -> int:
    try:
        allowed = os.sched_getaffinity(0)
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1
    siblings = set()
    for cpu in allowed:
        try:
            siblings.add((_CPUS / f"cpu{cpu}/topology/thread_siblings_list").read_text().strip())
        except OSError:
            siblings.add(str(cpu))
    return len(siblings)


def _quota() -> int:
    try:
        quota, period = _QUOTA.read_text().split()
        return int(quota) // int(period) or 1
    except (OSError, ValueError):  # no cgroup v2, or "max": no quota
        return os.cpu_count() or 1
