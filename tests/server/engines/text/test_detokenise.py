import pytest

from server.engines.text.detokenise import Detokeniser


def assembled(pieces: list[bytes]) -> list[str]:
    detokeniser = Detokeniser(pieces.__getitem__)
    return [detokeniser.push(token) for token in range(len(pieces))] + [detokeniser.flush()]


@pytest.mark.parametrize(
    ("pieces", "texts"),
    [
        ([b"Hi", b" there"], ["Hi", " there", ""]),
        ([b"\xf0\x9f", b"\x99\x82!"], ["", "🙂!", ""]),
        ([b"a\xc3", b"\xa9"], ["a", "é", ""]),
        ([b"\xc3", b"x"], ["", "\ufffdx", ""]),  # it can no longer become a character
        ([b"\xff", b"x"], ["\ufffd", "x", ""]),
        ([b"ab\xe7\x8c"], ["ab", "\ufffd"]),  # unfinished at the end
        ([b"", b"ok"], ["", "ok", ""]),
        ([b"\xed\xa0\x80"], ["\ufffd\ufffd\ufffd", ""]),  # a surrogate is no character
    ],
)
def test_characters_are_whole(pieces: list[bytes], texts: list[str]) -> None:
    assert assembled(pieces) == texts


def test_byte_by_byte_gives_the_same_text() -> None:
    text = "Grüße, 猫 🙂 ends"
    assert "".join(assembled([bytes([byte]) for byte in text.encode()])) == text
