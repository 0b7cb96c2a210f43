import pytest

from compat.openai.images.form import MOST_PARTS, MOST_TEXT, read_form
from server.core.errors import InvalidValue
from tests.compat.openai.images.sent import BOUNDARY, form

FILES = ("image", "mask")
BINARY = bytes(range(256)) * 3000 + b"\r\n--\r\n"


def part(name: str, data: bytes, head: str = "", file: str = "") -> bytes:
    filename = f'; filename="{file}"' if file else ""
    return f'Content-Disposition: form-data; name="{name}"{filename}\r\n{head}\r\n'.encode() + data


def body(*parts: bytes) -> bytes:
    return b"".join(f"--{BOUNDARY}\r\n".encode() + each + b"\r\n" for each in parts) + f"--{BOUNDARY}--\r\n".encode()


def test_texts_and_files() -> None:
    read = read_form(*form([("image", BINARY), ("mask", b"m")], prompt="a çat\n", n="2", user=""), FILES)
    assert read.files == {"image": (BINARY,), "mask": (b"m",)}
    assert read.texts == {"prompt": "a çat\n", "n": "2"}


def test_brackets_and_repeats() -> None:
    read = read_form(*form([("image[]", b"a"), ("image[]", b"b"), ("image", b"c"), ("other", b"d")]), FILES)
    assert read.files == {"image": (b"a", b"b", b"c"), "other": (b"d",)}
    twice = read_form(body(part("n", b"1"), part("n", b"2")), BOUNDARY, FILES)
    assert twice.texts == {"n": "2"}


def test_a_file_without_a_name_is_a_file_by_its_field() -> None:
    read = read_form(body(part("image", b"\xff\xd8"), part("prompt", b"x")), BOUNDARY, FILES)
    assert (read.files, read.texts) == ({"image": (b"\xff\xd8",)}, {"prompt": "x"})


def test_charsets_that_nobody_knows_are_no_matter() -> None:
    read = read_form(body(part("prompt", b"x", "Content-Type: text/plain; charset=klingon\r\n")), BOUNDARY, FILES)
    assert read.texts == {"prompt": "x"}


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"hello",
        body(part("prompt", b"x"))[:-8],
        b"--" + BOUNDARY.encode() + b"\r\nContent-Disposition: nonsense\r\n\r\nx\r\n--" + BOUNDARY.encode() + b"--",
        body(b"no head"),
        body(*(part("prompt", b"x") for _ in range(MOST_PARTS + 1))),
        body(part("prompt", b"x", "X-Long: " + "y" * 9000 + "\r\n")),
        body(part("prompt", b"\xff")),
        body(part("prompt", b"x" * (MOST_TEXT + 1))),
        body(part("\x01\x02" * 900, b"\xff")),
    ],
)
def test_what_is_damaged_or_too_much(sent: bytes) -> None:
    with pytest.raises(InvalidValue):
        read_form(sent, BOUNDARY, FILES)


def test_odd_boundaries() -> None:
    for boundary in ("", "\n", "\ud800", "x" * 5000):
        with pytest.raises(InvalidValue):
            read_form(body(part("prompt", b"x")), boundary, FILES)
