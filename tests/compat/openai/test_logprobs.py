"""Where tokens begin in a text, and how they are written."""

import pytest

from compat.openai.logprobs import OffsetText, joined
from server.core.text import LikelyToken, TokenLogprob


def tokens(*pieces: bytes) -> tuple[TokenLogprob, ...]:
    return tuple(TokenLogprob(token=k, piece=piece, logprob=-1.0) for k, piece in enumerate(pieces))


@pytest.mark.parametrize(
    ("text", "pieces", "offsets"),
    [
        ("Once upon", (b"Once", b" upon"), (0, 4)),
        ("Once upon", (b" Once", b" upon"), (0, 4)),
        ("Once upon", (b"<s>", b" Once", b" upon"), (0, 0, 4)),
        ("Once", (b"", b"Once"), (0, 0)),
        ("h\u00e9y", (b"h", b"\xc3", b"\xa9", b"y"), (0, 1, 1, 2)),
        ("\U0001f600!", ("\U0001f600".encode()[:2], "\U0001f600".encode()[2:], b"!"), (0, 0, 1)),
        ("a\ufffdb", (b"a", b"\xff", b"b"), (0, 1, 2)),
        ("", (b"</s>",), (0,)),
    ],
)
def test_offsets(text: str, pieces: tuple[bytes, ...], offsets: tuple[int, ...]) -> None:
    told = OffsetText().feed(text, tokens(*pieces))
    assert told is not None and told.text_offset == offsets


def test_offsets_go_on_from_piece_to_piece_of_a_text() -> None:
    growing = OffsetText()
    assert growing.feed("no tokens ", ()) is None
    parts = [growing.feed("ab", tokens(b"a", b"b")), growing.feed("c", tokens(b"c"))]
    assert joined([part for part in parts if part]).text_offset == (10, 11, 12)


def test_the_chosen_token_is_among_the_likely_ones_and_bytes_are_written_out() -> None:
    top = (LikelyToken(1, b"a", -0.1), LikelyToken(2, b"a", -3.0), LikelyToken(3, b"\xe2\x80", -4.0))
    told = OffsetText().feed("z", (TokenLogprob(token=9, piece=b"z", logprob=-5.0, top=top),))
    assert told is not None
    assert told.top_logprobs == ({"a": -0.1, "bytes:\\xe2\\x80": -4.0, "z": -5.0},)
    first = OffsetText().feed("z", (TokenLogprob(token=9, piece=b"z", logprob=None),))
    assert first is not None and (first.token_logprobs, first.top_logprobs) == ((None,), (None,))


def test_the_logarithm_of_nothing_is_a_number_all_the_same() -> None:
    told = OffsetText().feed("z", (TokenLogprob(token=9, piece=b"z", logprob=float("-inf")),))
    assert told is not None and told.token_logprobs == (-9999.0,)
