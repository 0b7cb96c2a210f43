"""Which devices the machine has and how much memory, read from the system without any GPU library.

Sources: `/proc/meminfo` and the control group for RAM, `nvidia-smi` for NVIDIA, sysfs for AMD and Intel. A GPU without
memory of its own draws from the pool `ram`. Everything that cannot be read counts as not there.
"""

import logging
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from server.core.memory import GIB, KIB, MIB, RAM, DeviceProfile, MemoryBudget, PoolId, vram
from server.core.processor import multiplies_bfloat16, read_cpuinfo

logger = logging.getLogger(__name__)

AMD, INTEL = "0x1002", "0x8086"
SMI_QUERY = ("--query-gpu=name,memory.total", "--format=csv,noheader,nounits")
SMI_TIMEOUT_S = 10.0
APU_CARVE_OUT = 3 * GIB  # AMD firmware gives integrated GPUs at most 2 GiB unless told otherwise; cards have 4 and more
RAM_RESERVE, RAM_RESERVE_SHARE = 2 * GIB, 0.15
VRAM_RESERVE, VRAM_RESERVE_SHARE = 1 * GIB, 0.10

AskSmi = Callable[[], str]
"""Returns what nvidia-smi prints, empty when there is none. Blocks up to some seconds."""


class Roots(msgspec.Struct, frozen=True):
    """Where the kernel shows itself."""

    proc: Path = Path("/proc")
    sys: Path = Path("/sys")


class _Gpu(msgspec.Struct, frozen=True):
    backend: str
    name: str
    total: int
    shared: bool


HERE = Roots()


def machine_ram(roots: Roots = HERE) -> tuple[int, int]:
    """Return total and free bytes of RAM for this process: the machine's, or its control group's if that is less."""
    facts = _meminfo(roots)
    total = facts.get("MemTotal", 0)
    free = facts.get("MemAvailable", facts.get("MemFree", 0))
    for limit, used in _group_limits(roots):
        if limit > 0 and (limit < total or not total):
            total = limit
            free = min(free, max(0, limit - used)) if free else max(0, limit - used)
    return total, free


def find_devices(roots: Roots = HERE, ask_smi: AskSmi | None = None) -> tuple[DeviceProfile, ...]:
    """Return the CPU and then every accelerator, numbered in the order of their pools. Blocks while nvidia-smi runs."""
    total, _ = machine_ram(roots)
    cpuinfo = read_cpuinfo(roots.proc / "cpuinfo")
    halves = multiplies_bfloat16(cpuinfo)
    profiles = [DeviceProfile(id="cpu", backend="cpu", name=_cpu_name(cpuinfo), total=total, pool=RAM, bfloat16=halves)]
    gpus = [*_nvidia(ask_smi or _smi_of(roots)), *_drm(roots)]
    counts: dict[str, int] = {}
    own = 0
    for gpu in gpus:
        number = counts.get(gpu.backend, 0)
        counts[gpu.backend] = number + 1
        pool = RAM if gpu.shared else vram(own)
        own += 0 if gpu.shared else 1
        profiles.append(
            DeviceProfile(id=f"{gpu.backend}:{number}", backend=gpu.backend, name=gpu.name, total=gpu.total, pool=pool)
        )
    return tuple(profiles)


def default_budget(profiles: Iterable[DeviceProfile], configured: Mapping[str, int]) -> MemoryBudget:
    """Return how much models may hold per pool.

    `configured` maps pools (`ram`, `vram:0`, or `vram` for each accelerator) to bytes and wins. Else a reserve stays
    free: of RAM 15 %, at least 2 GiB; of device memory 10 %, at least 1 GiB; never more than half.
    """
    limits: dict[PoolId, int] = {}
    for profile in profiles:
        if profile.pool in limits:
            continue
        ram = profile.pool == RAM
        reserve, share = (RAM_RESERVE, RAM_RESERVE_SHARE) if ram else (VRAM_RESERVE, VRAM_RESERVE_SHARE)
        kept = min(max(reserve, int(profile.total * share)), profile.total // 2)
        limits[profile.pool] = profile.total - kept
    for pool in limits:
        every = configured.get("vram") if pool != RAM else None
        limits[pool] = configured.get(pool, every if every is not None else limits[pool])
    for name, count in configured.items():
        if name != "vram":
            limits.setdefault(PoolId(name), count)
    return MemoryBudget(limits=limits)


def _meminfo(roots: Roots) -> dict[str, int]:
    facts: dict[str, int] = {}
    for line in _read(roots.proc / "meminfo").splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if words and words[0].isdigit():
            facts[name] = int(words[0]) * KIB
    return facts


def _group_limits(roots: Roots) -> Iterator[tuple[int, int]]:
    """Yield limit and use of every control group that holds this process, version 2 and 1, up to the root.

    Page cache that can be dropped counts as free. In a container the shown path may not exist; its root does then.
    """
    base = roots.sys / "fs" / "cgroup"
    for line in _read(roots.proc / "self" / "cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers == "":
            names, top = ("memory.max", "memory.current", "inactive_file"), base
        elif "memory" in controllers.split(","):
            names, top = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"), base / "memory"
        else:
            continue
        for folder in _upwards(top, path):
            limit = _number(folder / names[0])
            if limit is not None:
                used = _number(folder / names[1]) or 0
                yield limit, max(0, used - _stat_value(folder / "memory.stat", names[2]))


def _upwards(top: Path, path: str) -> Iterator[Path]:
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for length in range(len(parts), -1, -1):
        yield top.joinpath(*parts[:length])


def _stat_value(file: Path, key: str) -> int:
    for line in _read(file).splitlines():
        name, _, value = line.partition(" ")
        if name == key and value.isdigit():
            return int(value)
    return 0


def _cpu_name(cpuinfo: str) -> str:
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model", "Hardware"):
            return value.strip()
    return "CPU"


def _smi_of(roots: Roots) -> AskSmi:
    """Return the real nvidia-smi where the driver is loaded; starting it for nothing would cost a second."""
    program = shutil.which("nvidia-smi") if (roots.proc / "driver" / "nvidia").is_dir() else None
    return (lambda: _run_smi(program)) if program is not None else (lambda: "")


def _run_smi(program: str) -> str:
    try:
        done = subprocess.run(
            [program, *SMI_QUERY], capture_output=True, text=True, timeout=SMI_TIMEOUT_S, check=True, errors="replace"
        )
    except (OSError, subprocess.SubprocessError) as error:
        logger.warning("nvidia-smi failed, NVIDIA devices are not counted: %s", error)
        return ""
    return done.stdout


def _nvidia(ask: AskSmi) -> Iterator[_Gpu]:
    """Yield the rows of nvidia-smi: name, MiB. A GPU on the CPU's memory shows no figure."""
    for line in ask().splitlines():
        name, _, figure = line.rpartition(",")
        if not name.strip():
            continue
        count = figure.strip()
        own = count.isdigit()
        yield _Gpu("cuda", name.strip(), int(count) * MIB if own else 0, shared=not own)


def _drm(roots: Roots) -> Iterator[_Gpu]:
    """Yield AMD and Intel GPUs from `/sys/class/drm/cardN/device`."""
    for card in _cards(roots.sys / "class" / "drm"):
        device = card / "device"
        vendor = _read(device / "vendor").strip()
        if vendor == AMD:
            own = _number(device / "mem_info_vram_total") or 0
            shared = own < APU_CARVE_OUT
            total = own + (_number(device / "mem_info_gtt_total") or 0) if shared else own
            name = _read(device / "product_name").strip() or "AMD GPU"
            if total:
                yield _Gpu("rocm", name, total, shared=shared)
        elif vendor == INTEL:
            own = _intel_memory(card)
            if own:
                yield _Gpu("xpu", "Intel GPU", own, shared=False)


def _cards(folder: Path) -> Sequence[Path]:
    try:
        found = [entry for entry in folder.iterdir() if entry.name[:4] == "card" and entry.name[4:].isdigit()]
    except OSError:
        return []
    return sorted(found, key=lambda entry: int(entry.name[4:]))


def _intel_memory(card: Path) -> int:
    """Return the local memory of an Intel card in bytes, 0 for a GPU in the CPU.

    i915 shows `lmem_total_bytes` below the card, xe `physical_vram_size_bytes` for each tile.
    """
    own = _number(card / "lmem_total_bytes")
    if own:
        return own
    try:
        tiles = list((card / "device").glob("tile*/physical_vram_size_bytes"))
    except OSError:
        return 0
    return sum(_number(tile) or 0 for tile in tiles)


def _number(file: Path) -> int | None:
    """Return a number written in decimal or hexadecimal; None when there is none (`max`, no such file)."""
    try:
        return int(_read(file).strip(), 0)
    except ValueError:
        return None


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
