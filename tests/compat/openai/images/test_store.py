from urllib.parse import parse_qs, urlsplit

import pytest

from compat.openai.images.store import MOST_PICTURES, PictureStore


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def parts(path: str) -> tuple[str, str, str]:
    split = urlsplit(path)
    query = parse_qs(split.query)
    return split.path, query["expires"][0], query["signature"][0]


def png(store: PictureStore, path: str) -> bytes | None:
    kept = store.get(*parts(path))
    return None if kept is None else kept.data


def test_what_is_put_is_found_until_it_ends(clock: Clock) -> None:
    store = PictureStore(limit=1000, life_s=60, clock=clock)
    path = store.put(b"one")
    assert png(store, path) == b"one"
    clock.now += 59
    assert png(store, path) == b"one"
    clock.now += 2
    assert png(store, path) is None
    assert store.held == 0


def test_nobody_makes_a_url_up_or_lengthens_one(clock: Clock) -> None:
    store = PictureStore(limit=1000, life_s=60, clock=clock)
    name, expires, signature = parts(store.put(b"one"))
    other, _, _ = parts(store.put(b"two"))
    later = str(int(expires) + 1)
    wrong = "0" * len(signature)
    for forged in (
        (name, later, signature),
        (other, expires, signature),
        (name, expires, wrong),
        (name, expires, ""),
        (name, "", signature),
        (name, "-1", signature),
        (name, "9" * 400, signature),
        (name, "١٢", signature),
        (name, expires, "\ud800"),
        ("../" + name, expires, signature),
        ("\ud800", expires, signature),
    ):
        assert store.get(*forged) is None, forged
    assert store.get(name, expires, signature) is not None


def test_another_server_has_another_key(clock: Clock) -> None:
    first, second = (PictureStore(limit=1000, life_s=60, clock=clock) for _ in range(2))
    assert png(second, first.put(b"one")) is None


def test_the_oldest_go_when_there_is_no_room(clock: Clock) -> None:
    store = PictureStore(limit=10, life_s=60, clock=clock)
    paths = [store.put(bytes([number]) * 4) for number in range(4)]
    assert [png(store, path) is not None for path in paths] == [False, False, True, True]
    assert store.held == 8
    large = store.put(b"x" * 50)
    assert png(store, large) == b"x" * 50, "the newest is always kept"
    assert store.held == 50


def test_small_pictures_are_counted_too(clock: Clock) -> None:
    store = PictureStore(limit=10**9, life_s=60, clock=clock)
    first = store.put(b"x")
    for _ in range(MOST_PICTURES):
        last = store.put(b"x")
    assert (png(store, first), png(store, last)) == (None, b"x")
    assert store.held == MOST_PICTURES


def test_a_picture_keeps_its_format(clock: Clock) -> None:
    store = PictureStore(limit=1000, life_s=60, clock=clock)
    path = store.put(b"one", "webp")
    assert urlsplit(path).path.endswith(".webp")
    kept = store.get(*parts(path))
    assert kept is not None and kept.kind == "webp"
