"""Figures of the system's memory."""

from pathlib import Path

from server.engines.meminfo import meminfo


def test_figures_are_bytes(tmp_path: Path) -> None:
    file = tmp_path / "meminfo"
    file.write_text("MemTotal:       2048 kB\nMemFree: 1 kB\nMemAvailable:   1024 kB\n")
    assert (meminfo("MemTotal", file), meminfo("MemAvailable", file)) == (2 * 1024**2, 1024**2)


def test_a_system_that_does_not_tell(tmp_path: Path) -> None:
    assert meminfo("MemTotal", tmp_path / "none") is None
    for nonsense in ("MemFree: 1 kB\n", "MemTotal:\n", "MemTotal: much kB\n", "MemTotal: \u00b5 kB\n"):
        (tmp_path / "meminfo").write_text(nonsense, encoding="utf-8")
        assert meminfo("MemTotal", tmp_path / "meminfo") is None
