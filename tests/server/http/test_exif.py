import random
import struct

import pytest
from PIL import Image

from server.http.exif import MOST_COMMENT, block, comment_in, orientation_in

TEXTS = ["", "a cat", "ein roter Kreis 青\nSteps: 1", "😀" * 9]


@pytest.mark.parametrize("text", TEXTS)
def test_a_comment_comes_back(text: str) -> None:
    assert comment_in(block(text)) == text


@pytest.mark.parametrize("text", TEXTS)
def test_others_read_it_too(text: str) -> None:
    read = Image.Exif()
    read.load(b"Exif\0\0" + block(text))
    assert read.get_ifd(0x8769)[0x9286] == b"UNICODE\0" + text.encode("utf-16-be")


@pytest.mark.parametrize("text", ["a" * 50_000, "😀" * 20_000, "x" + "😀" * 20_000])
def test_what_is_too_long_is_cut_between_letters(text: str) -> None:
    kept = comment_in(block(text))
    assert text.startswith(kept)
    assert MOST_COMMENT - 4 <= len(kept.encode("utf-16-be")) <= MOST_COMMENT
    assert len(block(text)) + 8 <= 65_535


def test_a_lone_surrogate_is_no_reason_to_fail() -> None:
    assert comment_in(block("a\ud800b")) == "a?b"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"ASCII\0\0\0a cat\0", "a cat"),
        (b"\0" * 8 + b"a cat", "a cat"),
        (b"a cat on a mat", "a cat on a mat"),
        ("青い猫がいる".encode(), "青い猫がいる"),
    ],
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_comments_of_other_makers(data: bytes, text: str, order: str) -> None:
    head = b"II*\0" if order == "<" else b"MM\0*"
    main = struct.pack(order + "HHHIII", 1, 0x8769, 4, 1, 26, 0)
    exif = struct.pack(order + "HHHIII", 1, 0x9286, 7, len(data), 44, 0)
    assert comment_in(head + struct.pack(order + "I", 8) + main + exif + data) == text


@pytest.mark.parametrize("order", ["<", ">"])
def test_which_side_is_up(order: str) -> None:
    head = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(order + "HHHIHHI", 1, 0x0112, 3, 1, 6, 0, 0)
    assert orientation_in(head + struct.pack(order + "I", 8) + entry) == 6
    assert orientation_in(block("x")) == orientation_in(b"") == orientation_in(b"II*\0") == 1


def test_damage_is_no_comment() -> None:
    dice = random.Random(1)
    good = block("a cat")
    for _ in range(3000):
        bad = bytearray(good[: dice.randrange(len(good) + 1)])
        for _ in range(dice.randrange(4)):
            if bad:
                bad[dice.randrange(len(bad))] = dice.randrange(256)
        comment_in(bytes(bad))
        orientation_in(bytes(bad))
