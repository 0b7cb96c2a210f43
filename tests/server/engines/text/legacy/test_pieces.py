"""The vocabulary: what an entry is follows from its id, and no two texts are equal."""

import pytest

from server.core.ggml.reading import GgmlError, Piece
from server.engines.text.legacy.pieces import BYTE, CONTROL, NORMAL, UNKNOWN, UNUSED, USER_DEFINED, tokens


def pieces(*more: tuple[str, float | None], scored: bool = True) -> list[Piece]:
    score = 0.0 if scored else None
    made = [Piece(" \u2047 ".encode(), score), Piece(b"", score), Piece(b"", score)]
    made += [Piece(bytes([value]), score) for value in range(256)]
    return made + [Piece(text.encode(), value) for text, value in more]


def test_special_tokens_bytes_and_pieces() -> None:
    made = tokens(pieces((" the", -3.0), (" ", -9.0), ("é", -2.5)), 262, trusted=True)
    assert [token.text for token in made[:4]] == ["<unk>", "<s>", "</s>", "<0x00>"]
    assert [token.kind for token in made[:4]] == [UNKNOWN, CONTROL, CONTROL, BYTE]
    assert made[258] == ("<0xFF>", 0.0, BYTE)
    assert made[259:] == [("\u2581the", -3.0, NORMAL), ("\u2581", -9.0, NORMAL), ("é", -2.5, NORMAL)]


def test_scores_of_the_first_container_follow_from_the_id() -> None:
    made = tokens(pieces(("  ", None), (" t", None), ("    ", None), ("er", None), scored=False), 263, trusted=False)
    assert [token.score for token in made[258:]] == [0.0, -1e9, -1.0, -1e9, -3.0]


def test_bytes_are_taken_from_the_id_where_their_text_is_lost() -> None:
    lost = pieces((" t", None), scored=False)
    lost[3 + 200] = Piece("\ufffd".encode(), None)
    assert tokens(lost, 260, trusted=False)[203].text == "<0xC8>"
    with pytest.raises(GgmlError, match="entry 203"):
        tokens(lost, 260, trusted=True)


def test_a_missing_last_entry_is_a_pad_token() -> None:
    assert tokens(pieces((" t", -1.0)), 261, trusted=True)[260] == ("<pad>", 0.0, CONTROL)


def test_what_was_added_behind_the_vocabulary() -> None:
    known = pieces(*((f"w{number}", -float(number)) for number in range(32000 - 259)))
    added = [Piece(b"[PAD]", -1000.0), Piece(b"### Human:", 0.0)]
    assert tokens([*known, *added], 32002, trusted=True)[32000:] == [
        ("[PAD]", -1000.0, CONTROL),
        ("### Human:", 0.0, USER_DEFINED),
    ]
    larger = [*known, *(Piece(f" z{number}".encode(), -1.0) for number in range(500))]
    assert tokens(larger, 32500, trusted=True)[32000] == ("\u2581z0", -1.0, NORMAL)


def test_texts_are_unique_and_none_is_empty() -> None:
    """llama.cpp ends the whole process for a text that occurs twice."""
    odd = [("a", -1.0), ("a", -2.0), ("", -3.0), ("<dup_260>", -4.0), ("<s>", -5.0), ("a", -6.0)]
    made = tokens(pieces(*odd, *odd), 271, trusted=True)
    texts = [token.text for token in made]
    assert len(set(texts)) == len(texts) and all(texts)
    assert made[259].text == "a" and made[260].kind == UNUSED


@pytest.mark.parametrize("count", [0, 1, 258])
def test_a_vocabulary_too_small_for_llama_is_refused(count: int) -> None:
    with pytest.raises(GgmlError):
        tokens(pieces()[:count], count, trusted=True)
