import os
from pathlib import Path

import pytest
import torch

from server.core.errors import DoesNotFit
from server.core.image import ControlUnit
from server.engines.image.checkpoint import Checkpoint, Precision
from server.engines.image.control import shelf as shelves
from server.engines.image.control.shelf import Shelf, free_bytes
from server.engines.image.placement import Placement
from tests.support.tiny_controlnet import write_tiny_controlnet

FLOAT32 = Precision(model=torch.float32, vae=torch.float32)


@pytest.fixture
def shelf(tiny: Checkpoint) -> Shelf:
    return Shelf(tiny.unet, Placement(device=torch.device("cpu"), precision=FLOAT32), allow_pickle=False)


def unit(path: Path) -> ControlUnit:
    return ControlUnit(name=path.stem, path=str(path))


def test_files_are_read_once_and_let_go_when_others_are_wanted(shelf: Shelf, tmp_path: Path) -> None:
    one, two = (unit(write_tiny_controlnet(tmp_path / f"{seed}.safetensors", seed=seed)) for seed in (1, 2))
    (first,) = shelf.lend([one])
    assert shelf.lend([one, one]) == [first, first]
    held = shelf.held
    assert held > 1_000_000
    both = shelf.lend([two, one])
    assert both[1] is first
    assert shelf.held == 2 * held
    assert shelf.lend([two]) == [both[0]]
    assert shelf.held == held
    shelf.clear()
    assert shelf.held == 0


def test_a_changed_file_is_read_again(shelf: Shelf, tmp_path: Path) -> None:
    path = write_tiny_controlnet(tmp_path / "a.safetensors")
    (first,) = shelf.lend([unit(path)])
    os.utime(path, ns=(1, 1))
    assert shelf.lend([unit(path)]) != [first]


def test_what_has_no_room_is_refused(shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_tiny_controlnet(tmp_path / "large.safetensors")
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 9 kB\nMemAvailable:     100 kB\n")
    monkeypatch.setattr(shelves, "MEMORY", meminfo)
    with pytest.raises(DoesNotFit, match=r"'large' needs .* MiB of ram, 100.0 KiB is free") as caught:
        shelf.lend([unit(path)])
    assert caught.value.fact("limit") == 100 * 1024
    assert shelf.held == 0


def test_where_nobody_tells_what_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelves, "MEMORY", tmp_path / "none")
    assert free_bytes(Placement(device=torch.device("cpu"), precision=FLOAT32)) is None
