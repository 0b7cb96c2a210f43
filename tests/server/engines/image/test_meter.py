"""The meter tells what was taken between two moments, and nothing where the system does not tell."""

import mmap
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from server.core.memory import MIB, RAM  # noqa: E402
from server.core.models import ImageSettings  # noqa: E402
from server.engines.image import placement  # noqa: E402
from server.engines.image.meter import Meter  # noqa: E402
from server.engines.meminfo import process_bytes  # noqa: E402

pytestmark = pytest.mark.torch

CPU = placement.choose(ImageSettings(device="cpu"))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_highest_point_is_told_though_the_memory_is_back() -> None:
    meter = Meter(CPU)
    standing = process_bytes()
    meter.begin(standing)
    with mmap.mmap(-1, 100 * MIB) as taken:  # not from the allocator, which may keep what was freed before
        for _ in range(100):
            taken.write(b"1" * MIB)
    found = meter.end()[RAM]
    assert 90 * MIB < found < 150 * MIB
    assert meter.end() == {}, "measured once"


def test_what_stood_before_is_no_part_of_it(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text("Name:\tx\nVmHWM:\t    3000 kB\n")
    meter = Meter(CPU, status=status, clear=tmp_path / "clear")
    meter.begin(1000 * 1024)
    assert meter.end() == {RAM: 2000 * 1024}
    meter.begin(5000 * 1024)
    assert meter.end() == {RAM: 1}


@pytest.mark.parametrize("text", ["", "VmHWM:\n", "VmHWM:\tmuch kB\n"])
def test_nothing_is_told_where_nothing_is_known(tmp_path: Path, text: str) -> None:
    status = tmp_path / "status"
    status.write_text(text)
    meter = Meter(CPU, status=status, clear=tmp_path / "clear")
    assert meter.end() == {}, "nothing was begun"
    meter.begin(0)
    assert meter.end() == {}
    meter = Meter(CPU, status=status, clear=tmp_path / "no folder" / "clear")
    meter.begin(0)
    assert meter.end() == {}
