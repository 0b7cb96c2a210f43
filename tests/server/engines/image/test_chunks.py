from collections.abc import Sequence

import pytest

from server.core.prompt import Break, Piece, Span
from server.engines.image.chunks import Chunk, Found, Placed, empty, pack
from server.engines.image.clip.tokenizer import ClipTokenizer, load_tokenizer
from tests.support.shared import golden, needs_shared

pytestmark = pytest.mark.torch

WORD = "cat "  # one token


@pytest.fixture(scope="module")
def tokenizer() -> ClipTokenizer:
    return load_tokenizer()


def inner(chunk: Chunk, tokenizer: ClipTokenizer) -> list[int]:
    """Return the tokens of the prompt in a chunk, without marks and padding."""
    return [token for token in chunk.tokens[1:] if token != tokenizer.end]


def lengths(pieces: Sequence[Piece], tokenizer: ClipTokenizer, backtrack: int = 20) -> list[int]:
    return [len(inner(chunk, tokenizer)) for chunk in pack(pieces, tokenizer, comma_backtrack=backtrack)]


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ((), [0]),
        ((Span(""),), [0]),
        ((Span(WORD * 75),), [75]),
        ((Span(WORD * 76),), [75, 1]),
        ((Span("cat"), Break(), Span("dog")), [1, 1]),
        ((Break(), Span("dog")), [0, 1]),
        ((Span("cat"), Break()), [1]),
        ((Break(), Break()), [0, 0]),
        # A comma among the last 20 tokens: what follows it moves on.
        ((Span(WORD * 60 + "," + WORD * 20),), [61, 20]),
        ((Span(WORD * 54 + "," + WORD * 30),), [75, 10]),
        ((Span(WORD * 55 + "," + WORD * 30),), [56, 30]),
        # The 76th token is itself a comma: no cut.
        ((Span(WORD * 70 + ", " + WORD * 4 + ","),), [75, 1]),
        ((Span(WORD * 74 + "," + WORD * 3),), [75, 3]),
    ],
)
def test_packing(tokenizer: ClipTokenizer, pieces: tuple[Piece, ...], expected: list[int]) -> None:
    assert lengths(pieces, tokenizer) == expected


def test_backtracking_can_be_off(tokenizer: ClipTokenizer) -> None:
    assert lengths((Span(WORD * 60 + "," + WORD * 20),), tokenizer, backtrack=0) == [75, 6]


def test_form_of_a_chunk(tokenizer: ClipTokenizer) -> None:
    (chunk,) = pack((Span("a cat", 1.3), Span("dog", 0.5)), tokenizer)
    assert len(chunk.tokens) == len(chunk.weights) == 77
    assert chunk.tokens[0] == tokenizer.start
    assert set(chunk.tokens[4:]) == {tokenizer.end}
    assert chunk.weights[:5] == (1.0, 1.3, 1.3, 0.5, 1.0)
    assert pack((), tokenizer) == (empty(tokenizer),)


def test_no_token_is_lost_or_moved(tokenizer: ClipTokenizer) -> None:
    text = ", ".join(WORD * (1 + k % 9) for k in range(60))
    packed = [token for chunk in pack((Span(text),), tokenizer) for token in inner(chunk, tokenizer)]
    assert packed == tokenizer.ids(text)


def vectors(name: str, count: int, tokenizer: ClipTokenizer) -> "Finder":
    return Finder(name, tokenizer.ids(name), count)


class Finder:
    def __init__(self, name: str, ids: list[int], count: int) -> None:
        self.name, self.ids, self.count = name, ids, count

    def __call__(self, tokens: Sequence[int], position: int) -> Found | None:
        if list(tokens[position : position + len(self.ids)]) == self.ids:
            return Found(self.name, len(self.ids), self.count)
        return None


def test_embeddings_take_their_place(tokenizer: ClipTokenizer) -> None:
    (chunk,) = pack((Span("a zqx cat", 1.2),), tokenizer, find=vectors("zqx", 3, tokenizer))
    a, cat = tokenizer.ids("a cat")
    assert chunk.tokens[1:6] == (a, 0, 0, 0, cat)
    assert chunk.weights[1:6] == (1.2,) * 5
    assert chunk.embeddings == (Placed(2, "zqx"),)


def test_embeddings_are_never_cut(tokenizer: ClipTokenizer) -> None:
    first, second = pack((Span(WORD * 73 + "zqx"),), tokenizer, find=vectors("zqx", 3, tokenizer))
    assert len(inner(first, tokenizer)) == 73
    assert first.embeddings == ()
    assert second.embeddings == (Placed(1, "zqx"),)


def test_embeddings_move_on_with_the_tokens_around_them(tokenizer: ClipTokenizer) -> None:
    text = WORD * 60 + ", zqx " + WORD * 12
    first, second = pack((Span(text),), tokenizer, find=vectors("zqx", 3, tokenizer))
    assert len(inner(first, tokenizer)) == 61
    assert first.embeddings == ()
    assert second.embeddings == (Placed(1, "zqx"),)
    assert second.tokens[1:4] == (0, 0, 0)


@needs_shared
@pytest.mark.golden
def test_recorded_chunks(tokenizer: ClipTokenizer) -> None:
    """All recorded prompts, from their recorded emphasis segments."""
    for entry in golden("prompts.json")["prompts"]:
        pieces = [
            Break() if weight == -1 and text == "BREAK" else Span(text, weight) for text, weight in entry["attention"]
        ]
        chunks = pack(pieces, tokenizer)
        assert [list(chunk.tokens) for chunk in chunks] == [chunk["tokens"] for chunk in entry["chunks"]], entry[
            "prompt"
        ]
        for chunk, recorded in zip(chunks, entry["chunks"], strict=True):
            assert chunk.weights == pytest.approx(recorded["multipliers"], abs=1e-6)
