import msgspec
import pytest

from compat.a1111 import enlarged
from compat.a1111.enlarged import Enlarged, key_of
from server.core.image import Size
from server.core.pixels import BUILT_IN, UpscaleRequest

WORK = UpscaleRequest(model=BUILT_IN, pictures=(b"a",))


def test_every_field_tells_requests_apart() -> None:
    others = [
        msgspec.structs.replace(WORK, **change)
        for change in (
            {"pictures": (b"b",)},
            {"model": "net"},
            {"factor": 3.0},
            {"size": Size(1, 2)},
            {"crop": True},
            {"kernel": "nearest"},
            {"under": (b"x",)},
            {"visibility": 0.5},
        )
    ]
    assert len({key_of(one) for one in (WORK, *others)}) == len(others) + 1
    assert key_of(WORK) == key_of(msgspec.structs.replace(WORK))


def test_the_oldest_are_forgotten() -> None:
    kept = Enlarged()
    for name in (b"1", b"2", b"3"):
        kept.put(name, name, most=2)
    assert [kept.get(name) for name in (b"1", b"2", b"3")] == [None, b"2", b"3"]
    assert kept.get(b"2")
    kept.put(b"4", b"4", most=2)
    assert [kept.get(name) for name in (b"2", b"3", b"4")] == [b"2", None, b"4"]
    kept.put(b"5", b"5", most=0)
    assert kept.get(b"5") is None


def test_so_are_those_beyond_the_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enlarged, "MOST_BYTES", 10)
    kept = Enlarged()
    kept.put(b"1", b"123456", most=5)
    kept.put(b"2", b"123456", most=5)
    assert (kept.get(b"1"), kept.get(b"2")) == (None, b"123456")
    kept.put(b"3", b"0" * 11, most=5)
    assert kept.get(b"3") is None
