"""Bytes, pools and budgets: values only. Who holds what is the registry's business."""

from collections.abc import Iterable, Mapping
from typing import NewType

import msgspec

Bytes = NewType("Bytes", int)
PoolId = NewType("PoolId", str)

RAM = PoolId("ram")

KIB = 1024
MIB = 1024**2
GIB = 1024**3


def vram(index: int) -> PoolId:
    """Return the pool of the memory on accelerator `index`, counted from 0."""
    return PoolId(f"vram:{index}")


def readable(count: int) -> str:
    """Return a byte count for people: `512 B`, `3.4 MiB`, `9.1 GiB`."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if abs(count) >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} B"


class Footprint(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes per pool that a loaded model holds: `resident` always, `working` at most while it computes."""

    resident: dict[PoolId, int] = {}
    working: dict[PoolId, int] = {}

    def total(self) -> dict[PoolId, int]:
        """Return resident and working bytes together, per pool."""
        return add([self.resident, self.working])


class MemoryBudget(msgspec.Struct, frozen=True, kw_only=True):
    """The promise not to exceed: bytes that loaded models may hold together, per pool."""

    limits: dict[PoolId, int]

    def lacking(self, used: Mapping[PoolId, int], need: Mapping[PoolId, int]) -> PoolId | None:
        """Return the first pool in which `used` and `need` together exceed the limit, None if they fit.

        A pool without a limit counts as having none to give.
        """
        for pool, count in need.items():
            if count > 0 and used.get(pool, 0) + count > self.limits.get(pool, 0):
                return pool
        return None


class DeviceProfile(msgspec.Struct, frozen=True, kw_only=True):
    """A device and the pool it draws from; a GPU that shares system memory draws from `ram`.

    `bfloat16` tells of a CPU that it multiplies such numbers by itself, so that models run in them unless told.
    """

    id: str
    backend: str
    name: str
    total: int
    pool: PoolId
    bfloat16: bool = False


def add(parts: Iterable[Mapping[PoolId, int]]) -> dict[PoolId, int]:
    """Return the sum per pool."""
    total: dict[PoolId, int] = {}
    for part in parts:
        for pool, count in part.items():
            total[pool] = total.get(pool, 0) + count
    return total


def most(parts: Iterable[Mapping[PoolId, int]]) -> dict[PoolId, int]:
    """Return the largest count of each pool."""
    largest: dict[PoolId, int] = {}
    for part in parts:
        for pool, count in part.items():
            largest[pool] = max(largest.get(pool, count), count)
    return largest
