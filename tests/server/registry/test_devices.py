"""Devices and memory, read from made-up kernels."""

import pytest

from server.core.memory import GIB, MIB, RAM, DeviceProfile, vram
from server.registry.devices import Roots, default_budget, find_devices, machine_ram

KIB_OF = {"MemTotal": 16 * 1024**2, "MemFree": 1024**2, "MemAvailable": 12 * 1024**2}


def put(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def roots(tmp_path):
    made = Roots(tmp_path / "proc", tmp_path / "sys")
    put(made.proc / "meminfo", "".join(f"{name}: {count} kB\n" for name, count in KIB_OF.items()))
    put(made.proc / "cpuinfo", "processor : 0\nmodel name : Fine CPU\n")
    return made


def nothing():
    return ""


def test_ram_is_the_machines(roots):
    assert machine_ram(roots) == (16 * GIB, 12 * GIB)


def test_a_control_group_of_version_2_limits_it_and_its_cache_counts_as_free(roots):
    put(roots.proc / "self" / "cgroup", "0::/system.slice/hearth.service\n")
    group = roots.sys / "fs" / "cgroup" / "system.slice"
    put(group / "memory.max", str(4 * GIB))
    put(group / "memory.current", str(3 * GIB))
    put(group / "memory.stat", f"anon 1\ninactive_file {GIB}\n")
    put(group / "hearth.service" / "memory.max", "max\n")
    assert machine_ram(roots) == (4 * GIB, 2 * GIB)


def test_a_control_group_of_version_1_limits_it_even_when_only_its_root_shows(roots):
    put(roots.proc / "self" / "cgroup", "9:cpu:/x\n4:memory:/docker/abc\n")
    group = roots.sys / "fs" / "cgroup" / "memory"
    put(group / "memory.limit_in_bytes", str(2 * GIB))
    put(group / "memory.usage_in_bytes", str(GIB // 2))
    assert machine_ram(roots) == (2 * GIB, 3 * GIB // 2)


def test_a_limit_above_the_machine_is_none(roots):
    put(roots.proc / "self" / "cgroup", "4:memory:/\n")
    put(roots.sys / "fs" / "cgroup" / "memory" / "memory.limit_in_bytes", "9223372036854771712")
    assert machine_ram(roots) == (16 * GIB, 12 * GIB)


def test_without_a_gpu_there_is_the_cpu(roots):
    assert find_devices(roots, nothing) == (
        DeviceProfile(id="cpu", backend="cpu", name="Fine CPU", total=16 * GIB, pool=RAM),
    )


def test_a_cpu_tells_whether_it_multiplies_bfloat16(roots):
    assert not find_devices(roots, nothing)[0].bfloat16
    put(roots.proc / "cpuinfo", "model name : Finer CPU\nflags : fpu amx_bf16\n")
    (cpu,) = find_devices(roots, nothing)
    assert (cpu.name, cpu.bfloat16) == ("Finer CPU", True)


def test_nvidia_rows_become_pools_in_order_and_shared_memory_is_ram(roots):
    rows = "NVIDIA A, with comma, 24564\nNVIDIA GB10, [N/A]\nNVIDIA B, 8192\n"
    _, first, shared, second = find_devices(roots, lambda: rows)
    assert (first.id, first.name, first.total, first.pool) == ("cuda:0", "NVIDIA A, with comma", 24564 * MIB, vram(0))
    assert (shared.id, shared.pool) == ("cuda:1", RAM)
    assert (second.id, second.total, second.pool) == ("cuda:2", 8192 * MIB, vram(1))


def test_amd_cards_have_their_own_memory_and_apus_draw_from_ram(roots):
    for number, own in ((1, 16 * GIB), (0, GIB // 2)):
        device = roots.sys / "class" / "drm" / f"card{number}" / "device"
        put(device / "vendor", "0x1002\n")
        put(device / "mem_info_vram_total", f"{own}\n")
        put(device / "mem_info_gtt_total", f"{8 * GIB}\n")
    (roots.sys / "class" / "drm" / "card0-HDMI-A-1").mkdir()
    _, apu, card = find_devices(roots, nothing)
    assert (apu.id, apu.pool, apu.total) == ("rocm:0", RAM, 8 * GIB + GIB // 2)
    assert (card.id, card.pool, card.total) == ("rocm:1", vram(0), 16 * GIB)


def test_intel_cards_show_local_memory_and_graphics_in_the_cpu_do_not_count(roots):
    drm = roots.sys / "class" / "drm"
    for number in range(3):
        put(drm / f"card{number}" / "device" / "vendor", "0x8086")
    put(drm / "card1" / "lmem_total_bytes", str(8 * GIB))
    put(drm / "card2" / "device" / "tile0" / "physical_vram_size_bytes", hex(12 * GIB))
    _, first, second = find_devices(roots, nothing)
    assert [(d.id, d.total, d.pool) for d in (first, second)] == [
        ("xpu:0", 8 * GIB, vram(0)),
        ("xpu:1", 12 * GIB, vram(1)),
    ]


def test_a_kernel_that_shows_nothing_is_survived(tmp_path):
    (cpu,) = find_devices(Roots(tmp_path / "no", tmp_path / "where"), nothing)
    assert (cpu.name, cpu.total) == ("CPU", 0)


def profile(pool, total):
    return DeviceProfile(id=str(pool), backend="x", name="", total=total, pool=pool)


@pytest.mark.parametrize(
    ("total", "kept"), [(100 * GIB, 15 * GIB), (10 * GIB, 2 * GIB), (3 * GIB, 3 * GIB // 2), (0, 0)]
)
def test_a_share_of_ram_stays_free(total, kept):
    assert default_budget([profile(RAM, total)], {}).limits == {RAM: total - kept}


def test_configured_figures_win_and_vram_means_every_device():
    profiles = [profile(RAM, 16 * GIB), profile(vram(0), 24 * GIB), profile(vram(1), 8 * GIB)]
    assert default_budget(profiles, {}).limits[vram(0)] == 24 * GIB - int(24 * GIB * 0.1)
    assert default_budget(profiles, {}).limits[vram(1)] == 7 * GIB
    limits = default_budget(profiles, {"ram": 5, "vram": 7, "vram:1": 9}).limits
    assert limits == {RAM: 5, vram(0): 7, vram(1): 9}
