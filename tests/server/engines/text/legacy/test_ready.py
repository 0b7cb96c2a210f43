"""Which file is loaded, and that a conversion that fails leaves nothing behind."""

import errno
import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

from server.core.errors import LoadFailed
from server.core.models import ModelCard, ModelKind
from server.engines.text.legacy import ready
from server.engines.text.legacy.ready import SHARE, ready_file
from server.registry.catalog import Catalog
from server.registry.hashes import HashCache
from server.registry.probe.gguf import read_gguf
from tests.support.ggml_writer import GGJT1, tiny_ggml
from tests.support.model_files import write_gguf


def catalog(folder: Path) -> Catalog:
    made = Catalog([folder / "models"], hashes=HashCache(), converted=folder / "state" / "converted")
    made.scan()
    return made


@pytest.fixture
def card(tmp_path: Path) -> ModelCard:
    tiny_ggml(tmp_path / "models" / "text" / "old.bin", era=GGJT1)
    return catalog(tmp_path).find("old", ModelKind.TEXT)


def silent(_: float) -> None:
    """Be told how far a load is."""


def left(card: ModelCard) -> list[str]:
    folder = Path(card.converted).parent
    return [path.name for path in folder.iterdir()] if folder.exists() else []


def test_a_file_of_today_is_loaded_as_it_is(tmp_path: Path) -> None:
    write_gguf(tmp_path / "models" / "text" / "new.gguf")
    card = catalog(tmp_path).find("new", ModelKind.TEXT)
    assert ready_file(card, silent) == (Path(card.files[0]), silent)


def test_it_is_converted_once_even_from_a_folder_that_cannot_be_written(card: ModelCard) -> None:
    folder = Path(card.files[0]).parent
    folder.chmod(0o555)
    try:
        made, _ = ready_file(card, silent)
        first = made.stat()
        assert ready_file(card, silent)[0].stat().st_mtime_ns == first.st_mtime_ns
    finally:
        folder.chmod(0o755)
    with made.open("rb", buffering=0) as file:
        assert read_gguf(file, first.st_size).text("general.architecture") == "llama"
    assert left(card) == [Path(card.converted).name]


def test_progress_goes_on_with_the_load(card: ModelCard) -> None:
    told: list[float] = []
    _, report = ready_file(card, told.append)
    assert told == sorted(told) and told[0] == 0 and 0 < told[-1] < SHARE
    report(0.0)
    report(1.0)
    assert told[-2:] == [SHARE, 1.0]


def test_a_listener_that_fails_leaves_nothing(card: ModelCard) -> None:
    def fail(fraction: float) -> None:
        if fraction:
            raise ConnectionError("the parent has gone")

    with pytest.raises(ConnectionError):
        ready_file(card, fail)
    assert left(card) == []


def test_a_file_that_changed_after_it_was_listed_is_not_mistaken(card: ModelCard, tmp_path: Path) -> None:
    tiny_ggml(Path(card.files[0]), era=GGJT1, seed=9)
    os.utime(card.files[0], ns=(1, 1))
    with pytest.raises(LoadFailed, match="changed"):
        ready_file(card, silent)
    assert left(card) == []
    ready_file(catalog(tmp_path).find("old", ModelKind.TEXT), silent)


def test_what_was_made_of_an_earlier_file_goes(card: ModelCard, tmp_path: Path) -> None:
    ready_file(card, silent)
    tiny_ggml(tmp_path / "models" / "text" / "other.bin", era=GGJT1)
    tiny_ggml(Path(card.files[0]), era=GGJT1, seed=9)
    os.utime(card.files[0], ns=(1, 1))
    found = catalog(tmp_path)
    for name in ("old", "other"):
        ready_file(found.find(name, ModelKind.TEXT), silent)
    assert sorted(left(card)) == sorted(Path(found.find(name).converted).name for name in ("old", "other"))


def test_a_full_disk_is_told_and_left_as_it_was(card: ModelCard, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ready, "convert", full)
    with pytest.raises(LoadFailed, match="no room"):
        ready_file(card, silent)
    assert left(card) == []


def test_room_is_looked_for_before_anything_is_written(card: ModelCard, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(Path(card.files[0]).parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(LoadFailed, match="1000 B are free"):
        ready_file(card, silent)
    assert left(card) == []


def test_a_damaged_file_is_told_without_a_path(card: ModelCard, tmp_path: Path) -> None:
    data = Path(card.files[0]).read_bytes()
    status = Path(card.files[0]).stat()
    at = data.index(b"layers.1.ffn_norm.weight")
    Path(card.files[0]).write_bytes(data[: at - 16] + b"\xff" * 4 + data[at - 12 :])
    os.utime(card.files[0], ns=(status.st_mtime_ns, status.st_mtime_ns))
    with pytest.raises(LoadFailed) as caught:
        ready_file(card, silent)
    assert "old.bin" in caught.value.message and str(tmp_path) not in caught.value.message
    assert left(card) == []


def test_no_place_to_convert_to(card: ModelCard, tmp_path: Path) -> None:
    nowhere = Catalog([tmp_path / "models"], hashes=HashCache())
    nowhere.scan()
    with pytest.raises(LoadFailed, match="converted_dir"):
        ready_file(nowhere.find("old", ModelKind.TEXT), silent)
    (tmp_path / "state").write_text("a file where the folder should be")
    with pytest.raises(LoadFailed) as caught:
        ready_file(card, silent)
    assert str(tmp_path) not in caught.value.message
