from pathlib import Path

import pytest

from server.core.models import ModelKind
from server.registry.catalog import Catalog
from server.registry.hashes import HashCache
from server.registry.starters import Starter, is_starter, starters
from server.starter import CHAT, FOLDER, IMAGE
from tests.support.tiny_gguf import tiny_gguf

FILES = ("chat.gguf", "image.safetensors", "pixel-art.safetensors", "control-canny.safetensors")
ALL = {
    (f"{CHAT}.gguf", ModelKind.TEXT),
    (f"{IMAGE}.safetensors", ModelKind.CHECKPOINT),
    ("pixel-art.safetensors", ModelKind.LORA),
    ("control-canny.safetensors", ModelKind.CONTROLNET),
}
OF_TEXT = {entry for entry in ALL if entry[1] is ModelKind.TEXT}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (*FILES, "CHAT.md"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


@pytest.mark.parametrize(
    ("when", "present", "listed"),
    [
        ("auto", (), ALL),
        ("auto", (ModelKind.LORA, ModelKind.VAE), ALL),
        ("auto", (ModelKind.TEXT,), ALL - OF_TEXT),
        ("auto", (ModelKind.CHECKPOINT,), OF_TEXT),
        ("auto", (ModelKind.TEXT, ModelKind.CHECKPOINT), set()),
        ("always", (ModelKind.TEXT, ModelKind.CHECKPOINT), ALL),
        ("never", (), set()),
    ],
)
def test_which_are_listed(
    folder: Path, when: Starter, present: tuple[ModelKind, ...], listed: set[tuple[str, ModelKind]]
) -> None:
    assert {(found.name, found.kind) for found in starters(when, present, folder)} == listed


def test_none_where_the_package_has_none(tmp_path: Path) -> None:
    assert list(starters("always", (), tmp_path)) == []


def names(catalog: Catalog) -> dict[str, bool]:
    return {card.id: is_starter(card) for card in catalog.scan() if card.kind is ModelKind.TEXT}


def test_it_gives_way_to_a_model_that_comes_and_returns(tmp_path: Path) -> None:
    catalog = Catalog([tmp_path], hashes=HashCache(), starter="auto")
    assert names(catalog) == {CHAT: True}
    assert catalog.find(CHAT).broken is None
    file = tiny_gguf(tmp_path / "mine.gguf")
    assert names(catalog) == {"mine": False}
    file.unlink()
    assert names(catalog) == {CHAT: True}


def test_a_broken_model_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "mine.gguf").write_bytes(b"GGUF\x03")
    assert names(Catalog([tmp_path], hashes=HashCache(), starter="auto")) == {CHAT: True, "mine": False}


def test_beside_others_when_asked(tmp_path: Path) -> None:
    tiny_gguf(tmp_path / "mine.gguf")
    assert names(Catalog([tmp_path], hashes=HashCache(), starter="always")) == {CHAT: True, "mine": False}
    assert names(Catalog([tmp_path], hashes=HashCache())) == {"mine": False}


def test_what_watches_the_folders_sees_no_change_in_them(tmp_path: Path) -> None:
    catalog = Catalog([tmp_path], hashes=HashCache(), starter="auto")
    catalog.scan()
    assert catalog.scanned == catalog.fingerprint()


def test_it_is_small_enough_to_ship() -> None:
    assert 0 < (FOLDER / "chat.gguf").stat().st_size <= 8 * 1024**2
