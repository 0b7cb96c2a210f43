"""Which converted files belong to which models, and which to none."""

import fcntl
from pathlib import Path

from server.core.models import ModelCard, ModelId, ModelKind, TextFacts
from server.registry.catalog import Catalog
from server.registry.hashes import HashCache
from server.registry.legacy import conversions, needs_conversion, orphans, remove, with_conversion
from tests.support.ggml_writer import GGML, entries, tiny_ggml, tiny_weights, write_ggml
from tests.support.model_files import write_gguf

LEFT = ".old-000000000000-000000000000.gguf.x.part"


def card(container: str) -> ModelCard:
    return ModelCard(
        id=ModelId("x"),
        name="x.bin",
        kind=ModelKind.TEXT,
        files=("/m/x.bin",),
        text=TextFacts(container=container),
    )


def test_only_models_of_2023_are_converted(tmp_path: Path) -> None:
    old, new = card("ggjt v1"), card("")
    assert (needs_conversion(old), needs_conversion(new)) == (True, False)
    assert with_conversion(new, tmp_path, 1) == new
    assert with_conversion(old, None, 1) == old
    made = Path(with_conversion(old, tmp_path, 1).converted)
    assert made.parent == tmp_path
    assert made.name != Path(with_conversion(old, tmp_path, 2).converted).name


def test_orphans_are_what_no_model_needs(tmp_path: Path) -> None:
    models, folder = tmp_path / "m", tmp_path / "converted"
    tiny_ggml(models / "text" / "a.bin")
    tiny_ggml(models / "text" / "b.bin")
    write_gguf(models / "text" / "c.gguf")
    folder.mkdir()
    catalog = Catalog([models], hashes=HashCache(), converted=folder)
    first, second, third = (catalog.scan(), [catalog.find(name) for name in ("a", "b", "c")])[1]
    assert third.converted == ""
    for each in (first, second):
        Path(each.converted).write_bytes(b"GGUF")
    (folder / "mine.txt").write_text("of somebody else")
    (folder / LEFT).write_bytes(b"half")
    assert len(list(conversions(folder))) == 3
    assert [made.path.suffix for made in orphans(folder, catalog.cards())] == [".part"]
    Path(second.files[0]).unlink()
    lost = orphans(folder, catalog.scan())
    assert {made.path for made in lost} == {
        Path(second.converted),
        folder / ".old-000000000000-000000000000.gguf.x.part",
    }
    assert remove(lost) == 8
    assert sorted(path.name for path in folder.iterdir()) == sorted(["mine.txt", Path(first.converted).name])
    assert orphans(tmp_path / "nowhere", ()) == []


def test_what_is_being_written_is_no_orphan(tmp_path: Path) -> None:
    path = tmp_path / LEFT
    with path.open("wb") as writing:
        fcntl.flock(writing, fcntl.LOCK_EX)
        assert orphans(tmp_path, ()) == []
    assert [made.path for made in orphans(tmp_path, ())] == [path]


def test_parts_are_one_model_and_change_it(tmp_path: Path) -> None:
    text = tmp_path / "m" / "text"
    text.mkdir(parents=True)
    known = entries()[: len(entries()) // 2 * 2]
    write_ggml(text / "big.bin", tiny_weights(len(known)), known, heads=4, era=GGML, parts=2)
    catalog = Catalog([tmp_path / "m"], hashes=HashCache(), converted=tmp_path / "converted")
    (both,) = catalog.scan()
    assert [Path(file).name for file in both.files] == ["big.bin", "big.bin.1"]
    assert both.size == sum(Path(file).stat().st_size for file in both.files) and both.broken is None
    part = text / "big.bin.1"
    part.rename(text / "aside")
    (alone,) = catalog.scan()
    assert alone.broken is not None and "big.bin.1" in alone.broken
    (text / "aside").rename(part)
    (again,) = catalog.scan()
    assert again == both
