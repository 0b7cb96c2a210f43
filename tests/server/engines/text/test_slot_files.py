"""Files of slots: whole, labelled, and nothing else is given to llama.cpp."""

import os
import random
from pathlib import Path

import pytest

from server.core.errors import InvalidValue
from server.engines.text.slot_files import Label, checked, label_of, scope_digest, write

LABEL = Label(identity="model", scope=scope_digest("ann\n"), tokens=7, adapters=(("loud", 0.5),))
STATE = random.Random(7).randbytes(3_000_000)


def dump(name: str) -> int:
    return Path(name).write_bytes(STATE)


def written(folder: Path) -> Path:
    path = folder / "kept" / "x.bin"
    assert write(path, LABEL, dump) == path.stat().st_size
    return path


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = written(tmp_path)
    with checked(path) as (name, label, size):
        path.unlink()  # whatever becomes of its name, the file that was checked is the one that is read
        with open(name, "rb") as file:  # noqa: PTH123
            assert file.read(len(STATE)) == STATE
        assert label == LABEL and size > len(STATE)


def test_a_file_takes_the_place_of_another_and_nobody_else_reads_it(tmp_path: Path) -> None:
    path = written(tmp_path)
    write(path, LABEL, lambda name: Path(name).write_bytes(b"short"))
    assert path.stat().st_size < 1000 and [each.name for each in path.parent.iterdir()] == ["x.bin"]
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("fault", ["library", "disk"])
def test_a_failure_leaves_what_was_there(tmp_path: Path, fault: str) -> None:
    def fail(name: str) -> int:
        Path(name).write_bytes(b"half")
        if fault == "disk":
            raise OSError("no room")
        return 0

    path = written(tmp_path)
    with pytest.raises(OSError):
        write(path, LABEL, fail)
    assert label_of(path) == LABEL and [each.name for each in path.parent.iterdir()] == ["x.bin"]


def test_every_damage_is_noticed(tmp_path: Path) -> None:
    path = written(tmp_path)
    whole = path.read_bytes()
    rng = random.Random(1)
    ends = range(len(whole) - 200, len(whole))  # label, checksum and mark, each byte of them
    for at in [0, *ends, *(rng.randrange(len(STATE)) for _ in range(20))]:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << rng.randrange(8))]) + whole[at + 1 :])
        with pytest.raises(InvalidValue), checked(path):
            pass
    for length in [0, 1, 43, 44, 45, len(STATE), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(InvalidValue), checked(path):
            pass


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_what_is_no_file_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.bin"
    if kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    with pytest.raises(InvalidValue), checked(path):
        pass
    assert label_of(path) is None


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), checked(tmp_path / "x.bin"):
        pass
    assert label_of(tmp_path / "x.bin") is None
