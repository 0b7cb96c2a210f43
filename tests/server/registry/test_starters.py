from pathlib import Path

import pytest

from server.core.models import ModelKind
from server.registry.cards import Probed, build
from server.registry.catalog import Catalog
from server.registry.hashes import HashCache
from server.registry.probe.base import Finding
from server.registry.starters import Starter, is_starter, starters
from server.starter import CHAT, CHAT_FILE, FOLDER, IMAGE, IMAGE_FILE
from server.starter.companions import CANNY, CANNY_FILE, PIXEL_ART, PIXEL_ART_FILE
from tests.support.tiny_gguf import tiny_gguf

FILES = (CHAT_FILE, IMAGE_FILE, PIXEL_ART_FILE, CANNY_FILE)
ALL = {
    (f"{CHAT}.gguf", ModelKind.TEXT),
    (f"{IMAGE}.safetensors", ModelKind.CHECKPOINT),
    (f"{PIXEL_ART}.safetensors", ModelKind.LORA),
    (f"{CANNY}.safetensors", ModelKind.CONTROLNET),
}
OF_TEXT = {entry for entry in ALL if entry[1] is ModelKind.TEXT}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (*FILES, "CHAT.md", "stranger.safetensors"):
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


def test_they_are_found_by_the_names_that_clients_use(folder: Path) -> None:
    found = build([Probed(each, Finding(kind=each.kind)) for each in starters("always", (), folder)])
    assert {draft.card.stem for draft in found} == {CHAT, IMAGE, PIXEL_ART, CANNY}


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
    assert 0 < (FOLDER / CHAT_FILE).stat().st_size <= 8 * 1024**2
