import os
import random
import stat
import string
from pathlib import Path

import pytest

from compat.a1111.naming import Facts, Place, of_sample
from compat.a1111.options import OptionValues
from compat.a1111.saving import LAST_PARAMETERS, OutputFolder
from server.core.errors import UnknownModel

PLACE = Place(folder=("txt2img-images", "2025-01-31"), decoration="7")


@pytest.fixture
def umask() -> object:
    old = os.umask(0o022)
    yield old
    os.umask(old)


def test_numbers_count_up(tmp_path: Path) -> None:
    folder = OutputFolder(str(tmp_path / "out"))
    names = [folder.save(PLACE, b"x").relative_to(tmp_path / "out") for _ in range(3)]
    assert [str(name) for name in names] == [f"txt2img-images/2025-01-31/0000{k}-7.png" for k in range(3)]
    (tmp_path / "out" / "txt2img-images" / "2025-01-31" / "00041-99.png").write_bytes(b"")
    assert folder.save(PLACE, b"x").name == "00042-7.png"


def test_grids_count_by_themselves(tmp_path: Path) -> None:
    folder = OutputFolder(str(tmp_path))
    folder.save(Place(folder=(), decoration="7"), b"x")
    assert folder.save(Place(folder=(), base="grid"), b"x").name == "grid-0000.png"
    assert folder.save(Place(folder=(), base="grid"), b"x").name == "grid-0001.png"
    assert folder.save(Place(folder=(), base="xyz_grid"), b"x").name == "xyz_grid-0000.png"


def test_nothing_is_written_over(tmp_path: Path) -> None:
    folder = OutputFolder(str(tmp_path))
    plain = Place(folder=(), decoration="7", numbered=False)
    assert [folder.save(plain, text).name for text in (b"a", b"b")] == ["7.png", "7-1.png"]
    assert (tmp_path / "7.png").read_bytes() == b"a"


@pytest.mark.usefixtures("umask")
def test_modes(tmp_path: Path) -> None:
    path = OutputFolder(str(tmp_path / "out")).save(PLACE, b"x", text="told")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert stat.S_IMODE(path.with_suffix(".txt").stat().st_mode) == 0o640
    for folder in (path.parent, path.parent.parent, tmp_path / "out"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o750


def test_only_whole_files_remain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        OutputFolder(str(tmp_path)).save(PLACE, b"x")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_file_system_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", never)
    folder = OutputFolder(str(tmp_path))
    assert folder.save(PLACE, b"one").read_bytes() == b"one"
    assert folder.save(PLACE, b"two").name == "00001-7.png"
    assert not list(tmp_path.rglob(".*.part"))


def test_a_folder_that_leads_out_is_not_written_to(tmp_path: Path) -> None:
    root, outside = tmp_path / "out", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / "txt2img-images").symlink_to(outside)
    with pytest.raises(PermissionError):
        OutputFolder(str(root)).save(PLACE, b"x")
    assert not [path for path in outside.rglob("*") if path.is_file()]


def test_the_newest_parameters(tmp_path: Path) -> None:
    folder = OutputFolder(str(tmp_path / "out"))
    folder.remember("one")
    folder.remember("two ü")
    assert (tmp_path / "out" / LAST_PARAMETERS).read_text() == "two ü"


def test_random_prompts_stay_below_the_root(tmp_path: Path) -> None:
    """Whatever a prompt or an option says."""
    source = random.Random(1)
    letters = string.printable + "../\\\0~$üé字\u202e" * 5
    for _ in range(20_000):
        text = "".join(source.choices(letters, k=source.randrange(40)))
        options = OptionValues(
            {
                "samples_filename_pattern": source.choice(("[prompt]", "[prompt_spaces]", text, "")),
                "directories_filename_pattern": source.choice(("[date]", "[prompt]/[styles]", text)),
                "outdir_samples": source.choice(("", text)),
            }
        )
        place = of_sample(options, "txt2img", Facts(seed=1, prompt=text, styles=(text,)))
        path = tmp_path.joinpath(*place.folder, f"{place.name(0)}.png")
        assert Path(os.path.normpath(path)).is_relative_to(tmp_path)
        for part in (*place.folder, path.name):
            assert not part.startswith(".")
            assert part not in ("", "..")
            assert not set("/\\\0") & set(part)
            assert len(part.encode()) < 256


def test_files_are_found_again_however_they_are_named(tmp_path: Path) -> None:
    folder = OutputFolder(str(tmp_path / "outputs"))
    path = folder.save(PLACE, b"x")
    inside = str(path.relative_to(tmp_path / "outputs"))
    for name in (str(path), inside, f"outputs/{inside}"):
        assert folder.find(name) == path.resolve()


@pytest.mark.parametrize(
    "name",
    [
        "../secret.png",
        "/etc/passwd",
        "outputs/../../secret.png",
        "",
        ".",
        "a\0b",
        "notes.svg",
        ".hidden.png",
        "link.png",
        "x" * 5000,
    ],
)
def test_nothing_else_is_found(tmp_path: Path, name: str) -> None:
    root = tmp_path / "outputs"
    root.mkdir()
    (tmp_path / "secret.png").write_bytes(b"secret")
    (root / "notes.svg").write_bytes(b"<svg/>")
    (root / ".hidden.png").write_bytes(b"x")
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(UnknownModel):
        OutputFolder(str(root)).find(name)
