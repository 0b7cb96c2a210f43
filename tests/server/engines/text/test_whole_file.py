"""Files that are there whole or not at all."""

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from server.engines.text.whole_file import remove_leftovers, whole_file

ROOT = Path(__file__).parents[4]


@pytest.fixture(params=["nameless", "named"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder, on a system that has files without a name and on one that has not."""
    if request.param == "named":
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    return tmp_path


def test_a_file_appears_when_it_is_whole(folder: Path) -> None:
    path = folder / "x.gguf"
    with whole_file(path) as file:
        file.write(b"half")
        file.flush()
        assert not path.exists()
        file.write(b" and half")
    assert path.read_bytes() == b"half and half"
    assert [each.name for each in folder.iterdir()] == ["x.gguf"]
    assert path.stat().st_mode & 0o007 == 0


def test_a_failure_leaves_nothing(folder: Path) -> None:
    with pytest.raises(ValueError, match="in the middle"), whole_file(folder / "x.gguf") as file:
        file.write(b"half")
        raise ValueError("in the middle")
    assert list(folder.iterdir()) == []


def test_whoever_is_second_changes_nothing(folder: Path) -> None:
    path = folder / "x.gguf"
    with whole_file(path) as file:
        file.write(b"second")
        path.write_bytes(b"first")
    assert path.read_bytes() == b"first"
    assert [each.name for each in folder.iterdir()] == ["x.gguf"]


def test_one_that_replaces_takes_the_place_of_what_is_there(folder: Path) -> None:
    path = folder / ("n" * 250)
    path.write_bytes(b"first")
    with whole_file(path, replace=True) as file:
        file.write(b"second")
        file.flush()
        assert path.read_bytes() == b"first"
    assert path.read_bytes() == b"second" and path.stat().st_mode & 0o077 == 0
    with pytest.raises(ValueError, match="in the middle"), whole_file(path, replace=True) as file:
        raise ValueError("in the middle")
    assert path.read_bytes() == b"second" and list(folder.iterdir()) == [path]


def test_leftovers_go_and_what_is_being_written_stays(tmp_path: Path) -> None:
    for name in (".a.gguf.x.part", ".b.gguf.y.part", "c.gguf"):
        (tmp_path / name).write_bytes(b"x")
    with (tmp_path / ".b.gguf.y.part").open("rb") as writing:
        fcntl.flock(writing, fcntl.LOCK_EX)
        remove_leftovers(tmp_path)
        assert {each.name for each in tmp_path.iterdir()} == {".b.gguf.y.part", "c.gguf"}
    remove_leftovers(tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["c.gguf"]


def test_a_writer_that_is_killed_leaves_no_file_of_that_name(tmp_path: Path) -> None:
    code = f"""
import os, pathlib, signal
from server.engines.text.whole_file import whole_file
with whole_file(pathlib.Path({str(tmp_path / "x.gguf")!r})) as file:
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "x.gguf").exists()
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_told(folder: Path) -> None:
    with pytest.raises(OSError), whole_file(folder / "nowhere" / "x.gguf"):
        pass
