import base64

import pytest

from server.core.errors import InvalidValue, Unsupported
from server.core.text import MOST_PICTURES, Message, PicturePart, TextPart
from server.http import pictures
from server.http.pictures import check_pictures, data_url, is_address, picture_at, picture_in

DATA = b"\x89PNG\r\n\x1a\n and more"
BASE64 = base64.b64encode(DATA).decode()


@pytest.mark.parametrize(
    "url",
    [
        f"data:image/png;base64,{BASE64}",
        f"data:image/jpeg;base64,{BASE64}",
        f"DATA:IMAGE/PNG;BASE64,{BASE64}",
        f"data:image/png;charset=utf-8;base64,{BASE64}",
        f"data:;base64,{BASE64}",
        f"data:image/png;base64,{BASE64[:8]}\n{BASE64[8:]}\n",
        data_url(DATA),
    ],
)
def test_data_urls(url: str) -> None:
    assert picture_at(url, "p") == PicturePart(DATA, "p")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "data URL"),
        (BASE64, "data URL"),
        ("file:///etc/passwd", "data URL"),
        ("ftp://example.org/a.png", "data URL"),
        ("data:image/svg+xml,<svg/>", "data URL"),
        (f"data:text/html;base64,{BASE64}", "picture"),
        (f"data:application/pdf;base64,{BASE64}", "picture"),
        ("data:image/png;base64,", "empty"),
        ("data:image/png;base64,%%%", "base64"),
        ("data:image/png;base64,abc", "base64"),
        ("data:image/png;base64,ä", "base64"),
        ("data:" + "a" * 200 + ";base64,AAAA", "data URL"),
    ],
)
def test_what_is_none(url: str, words: str) -> None:
    with pytest.raises(InvalidValue, match=words) as refused:
        picture_at(url, "messages[0].content[1].image_url")
    assert refused.value.fact("param") == "messages[0].content[1].image_url"


@pytest.mark.parametrize("url", ["http://example.org/a.png", "HTTPS://example.org/a.png"])
def test_addresses_are_not_fetched_here(url: str) -> None:
    assert is_address(url)
    with pytest.raises(Unsupported, match="fetch_images"):
        picture_at(url, "p")


def test_bytes_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MOST_BYTES", 100)
    first, second = PicturePart(b"a" * 60, "first"), PicturePart(b"b" * 60, "second")
    check_pictures([Message(role="user", parts=(TextPart("x" * 1000), first))])
    with pytest.raises(InvalidValue) as refused:
        check_pictures([Message(role="user", parts=(first,)), Message(role="tool", parts=(second,))])
    assert refused.value.fact("param") == "second"


def test_pictures_are_counted() -> None:
    pictures = tuple(PicturePart(b"a", f"p{number}") for number in range(MOST_PICTURES + 1))
    check_pictures([Message(role="user", parts=pictures[:-1])])
    with pytest.raises(InvalidValue) as refused:
        check_pictures([Message(role="user", parts=pictures)])
    assert refused.value.fact("param") == f"p{MOST_PICTURES}"


def test_base64_alone() -> None:
    assert picture_in(BASE64, "p").data == DATA
    with pytest.raises(InvalidValue, match="empty"):
        picture_in("", "p")
