import base64

import pytest

from compat.a1111 import encoded
from compat.a1111.encoded import picture, pictures
from compat.a1111.refusals import Refused
from server.core.errors import InvalidValue
from tests.support.fake_images import tiny_png

FILE = tiny_png(3)
TEXT = base64.b64encode(FILE).decode()


@pytest.mark.parametrize("text", [TEXT, f"data:image/png;base64,{TEXT}", TEXT[:20] + "\n " + TEXT[20:]])
def test_files_come_out_of_texts(text: str) -> None:
    assert picture(text) == FILE


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "Invalid encoded image"),
        ("notbase64!!", "Invalid encoded image"),
        (None, "Invalid encoded image"),
        (5, "Invalid encoded image"),
        ({"a": 1}, "Invalid encoded image"),
        (base64.b64encode(b"a text file").decode(), "Invalid encoded image"),
        ("data:text/plain;base64," + TEXT, "Invalid encoded image"),
        ("file:///etc/passwd", "Invalid encoded image"),
        ("http://127.0.0.1:1/x.png", "Request to local resource not allowed"),
        ("http://[::1]/x.png", "Request to local resource not allowed"),
        ("https://localhost/x.png", "Request to local resource not allowed"),
        ("http://host.docker.internal/x", "Request to local resource not allowed"),
        ("http://10.0.0.5/x.png", "Request to local resource not allowed"),
        ("https://example.com/x.png", "Requests not allowed"),
        ("http://[broken/x.png", "Requests not allowed"),
    ],
)
def test_what_is_no_file(text: object, told: str) -> None:
    with pytest.raises(Refused) as caught:
        picture(text)
    assert caught.value.fact("detail") == told
    assert caught.value.fact("status") == 422


def test_pictures_and_a_mask() -> None:
    assert pictures([TEXT, TEXT], TEXT) == ((FILE, FILE), FILE)
    assert pictures([TEXT], None) == ((FILE,), None)
    with pytest.raises(Refused):
        pictures([TEXT], "")


def test_pictures_may_be_too_large_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoded, "MOST_BYTES", 2 * len(FILE))
    pictures([TEXT, TEXT], None)
    with pytest.raises(InvalidValue) as caught:
        pictures([TEXT, TEXT], TEXT)
    assert caught.value.fact("param") == "init_images"


@pytest.mark.parametrize(
    "text",
    [
        "data:image/svg+xml;base64," + base64.b64encode(b"<svg xmlns='http://www.w3.org/2000/svg'/>").decode(),
        "data:image/svg+xml;utf8,<svg/>",
        "data:image/png;base64," + base64.b64encode(b"%PDF-1.4").decode(),
        "data:text/html;base64," + base64.b64encode(b"<script>").decode(),
        "data:application/octet-stream;base64," + TEXT,
        "data:image/png," + TEXT,
        "data:;base64," + TEXT,
        "ftp://example.com/x.png",
        "gopher://127.0.0.1/x.png",
        "/etc/passwd",
        "blob:http://localhost/1",
    ],
)
def test_other_addresses_and_types_are_none_either(text: str) -> None:
    with pytest.raises(Refused, match="Invalid encoded image"):
        picture(text)


def test_the_type_that_a_data_url_tells_does_not_count() -> None:
    assert picture(f"data:image/jpeg;base64,{TEXT}") == FILE
