"""What the CPU can multiply, from what Linux tells about it: pure, so that parent and child come to the same answer."""

from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")

BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})
"""Instructions that multiply bfloat16 at several times the speed of float32 (4.4 times on a Zen 5)."""


def multiplies_bfloat16(cpuinfo: str) -> bool:
    """Tell whether every processor of a `/proc/cpuinfo` multiplies bfloat16 by itself.

    Without such instructions torch emulates it, many times slower than float32. ARM's are not counted: nobody has
    measured them here.

    >>> multiplies_bfloat16("flags : fma avx2 avx512_bf16")
    True
    >>> multiplies_bfloat16("flags : fma avx2")
    False
    """
    lines = [
        line.partition(":")[2].split() for line in cpuinfo.splitlines() if line.partition(":")[0].strip() == "flags"
    ]
    return bool(lines) and all(not BFLOAT16_FLAGS.isdisjoint(flags) for flags in lines)


def read_cpuinfo(path: Path = CPUINFO) -> str:
    """Return what the system tells about its processors, empty where it does not."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
