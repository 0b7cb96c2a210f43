"""The file of responses: chains, bounds, owners, and a restart."""

import sqlite3
import stat
from pathlib import Path
from typing import Any

import pytest

from compat.openai.responses.store import DAY_S, Limits, ResponseStore, Stored, StoreFailed

NOW = 1_700_000_000.0


def store(folder: Path, **limits: Any) -> ResponseStore:
    return ResponseStore(folder / "responses.sqlite3", Limits(**{"kept": 100, "bytes": 10_000, "days": 30.0, **limits}))


def made(identity: str, previous: str | None = None, owner: str = "ann", **fields: Any) -> Stored:
    given = {"input": b"[]", "response": b"{}", **fields}
    return Stored(id=identity, owner=owner, previous=previous, **given)


def ids(chain: tuple[Stored, ...]) -> list[str]:
    return [one.id for one in chain]


def test_what_was_stored_is_found_by_its_owner_alone_and_after_a_restart(tmp_path: Path) -> None:
    one = made("resp_1", input=b'[{"a":1}]', response="é".encode())
    store(tmp_path).save(one, NOW)
    again = store(tmp_path)
    assert again.find("resp_1", "ann") == one
    assert again.find("resp_1", "bob") is None and again.find("resp_2", "ann") is None
    assert not again.delete("resp_1", "bob")
    assert again.delete("resp_1", "ann") and not again.delete("resp_1", "ann")
    assert again.find("resp_1", "ann") is None


def test_the_file_is_its_owners_business_alone(tmp_path: Path) -> None:
    store(tmp_path).save(made("resp_1"), NOW)
    assert stat.S_IMODE((tmp_path / "responses.sqlite3").stat().st_mode) == 0o600


def test_a_chain_is_whole_or_nothing(tmp_path: Path) -> None:
    kept = store(tmp_path)
    for one in (made("a"), made("b", "a"), made("c", "b"), made("other", "b"), made("lost", "gone")):
        kept.save(one, NOW)
    assert ids(kept.chain("c", "ann", NOW)) == ["a", "b", "c"]
    assert ids(kept.chain("a", "ann", NOW)) == ["a"]
    assert kept.chain("lost", "ann", NOW) == kept.chain("nothing", "ann", NOW) == kept.chain("c", "bob", NOW) == ()
    kept.delete("a", "ann")
    assert kept.chain("c", "ann", NOW) == ()


def test_a_chain_does_not_reach_into_what_belongs_to_another(tmp_path: Path) -> None:
    kept = store(tmp_path)
    kept.save(made("a", owner="bob"), NOW)
    kept.save(made("b", "a"), NOW)
    assert kept.chain("b", "ann", NOW) == ()


def test_a_circle_ends(tmp_path: Path) -> None:
    kept = store(tmp_path)
    kept.save(made("a", "b"), NOW)
    kept.save(made("b", "a"), NOW)
    assert kept.chain("a", "ann", NOW) == ()


def test_the_least_recently_used_are_thrown_away_first(tmp_path: Path) -> None:
    kept = store(tmp_path, kept=3)
    for age, one in enumerate((made("a"), made("b", "a"), made("x"))):
        kept.save(one, NOW + age)
    kept.chain("b", "ann", NOW + 10)
    kept.save(made("c", "b"), NOW + 11)
    assert ids(kept.chain("c", "ann", NOW + 12)) == ["a", "b", "c"]
    assert kept.find("x", "ann") is None


def test_the_bytes_are_bounded(tmp_path: Path) -> None:
    kept = store(tmp_path, bytes=1000)
    for age in range(5):
        kept.save(made(f"r{age}", response=b"x" * 300), NOW + age)
    assert [kept.find(f"r{age}", "ann") is not None for age in range(5)] == [False, False, True, True, True]
    kept.save(made("huge", response=b"x" * 2000), NOW + 9)
    assert kept.find("huge", "ann") is None


def test_old_ones_are_thrown_away(tmp_path: Path) -> None:
    kept = store(tmp_path, days=1)
    kept.save(made("a"), NOW)
    kept.save(made("b"), NOW + DAY_S - 1)
    assert kept.find("a", "ann") is not None
    kept.save(made("c"), NOW + DAY_S + 1)
    assert kept.find("a", "ann") is None and kept.find("b", "ann") is not None


def test_items_are_found_until_their_response_goes(tmp_path: Path) -> None:
    kept = store(tmp_path)
    kept.save(made("a", items=("msg_1", "fc_1")), NOW)
    kept.save(made("b", items=("msg_1",)), NOW)
    holder = kept.holder("fc_1", "ann")
    assert holder is not None and holder.id == "a"
    assert kept.holder("fc_1", "bob") is None and kept.holder("fc_2", "ann") is None
    kept.delete("a", "ann")
    assert kept.holder("fc_1", "ann") is None
    again = kept.holder("msg_1", "ann")
    assert again is not None and again.id == "b"


@pytest.mark.parametrize("content", [b"this is no database, only a long line of text" * 100, None])
def test_a_file_that_cannot_be_used_is_told(tmp_path: Path, content: bytes | None) -> None:
    folder = tmp_path if content else tmp_path / "missing"
    if content:
        (folder / "responses.sqlite3").write_bytes(content)
    with pytest.raises(StoreFailed):
        store(folder).save(made("a"), NOW)
    with pytest.raises(StoreFailed):
        store(folder).find("a", "ann")


def test_nothing_is_half_written(tmp_path: Path) -> None:
    kept = store(tmp_path)
    kept.save(made("a"), NOW)
    with pytest.raises(StoreFailed):
        kept.save(made("b", items=(object(),)), NOW)  # type: ignore[arg-type]
    with sqlite3.connect(tmp_path / "responses.sqlite3") as db:
        found = db.execute("SELECT id FROM responses").fetchall()
    db.close()
    assert found == [("a",)]
