import time

import pytest

from compat.a1111.prompt_syntax.emphasis import ROUND, SQUARE, pieces_of
from compat.a1111.prompt_syntax.limits import DEPTH
from server.core.errors import InvalidValue
from server.core.prompt import Break, Piece
from tests.support.shared import golden, needs_shared

BREAK = ("BREAK", -1)


def shown(pieces: tuple[Piece, ...]) -> list[tuple[str, float]]:
    return [BREAK if isinstance(piece, Break) else (piece.text, piece.weight) for piece in pieces]


@pytest.mark.parametrize(
    ("written", "pieces"),
    [
        ("", [("", 1.0)]),
        ("a cat", [("a cat", 1.0)]),
        ("(a)", [("a", ROUND)]),
        ("[a]", [("a", SQUARE)]),
        ("(a:1.5)", [("a", 1.5)]),
        ("(a: 1.5 )", [("a", 1.5)]),
        ("(a:.5)", [("a", 0.5)]),
        ("(a:-1)", [("a", -1.0)]),
        ("(a:)", [("a:", ROUND)]),
        ("(a:1,2)", [("a:1,2", ROUND)]),
        ("(a:1.1:1.2)", [("a:1.1", 1.2)]),
        ("(a:1.2.3)", [("a:1.2.3", ROUND)]),
        ("a:1.2)", [("a:1.2)", 1.0)]),
        ("(unnecessary)(parens)", [("unnecessaryparens", ROUND)]),
        ("(a", [("a", ROUND)]),
        ("a)]", [("a)]", 1.0)]),
        (r"\(literal\]", [("(literal]", 1.0)]),
        (r"\\ \a", [("\\ a", 1.0)]),
        ("a BREAK b", [("a", 1.0), BREAK, ("b", 1.0)]),
        ("BREAK", [("", 1.0), BREAK, ("", 1.0)]),
        ("a BREAK BREAK b", [("a", 1.0), BREAK, ("", 1.0), BREAK, ("b", 1.0)]),
        ("aBREAK", [("aBREAK", 1.0)]),
        ("(a BREAK b:1.2)", [("a", 1.2), ("BREAK", -1.2), ("b", 1.2)]),
    ],
)
def test_weights(written: str, pieces: list[tuple[str, float]]) -> None:
    assert shown(pieces_of(written, "prompt")) == pieces


def test_the_documented_example() -> None:
    got = shown(pieces_of("a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).", "prompt"))
    assert [text for text, _ in got] == ["a ", "house", " ", "on", " a ", "hill", ", sun, ", "sky", "."]
    assert [weight for _, weight in got] == pytest.approx([1, 1.573, 1.1, 1, 1.1, 0.55, 1.1, 1.4641, 1.1])


@needs_shared
@pytest.mark.golden
def test_recorded_weights_are_equal_to_the_last_bit() -> None:
    for case in golden("prompts.json")["prompts"]:
        wanted = [(text, weight) for text, weight in case["attention"]]
        assert shown(pieces_of(case["prompt"], "prompt")) == wanted, case["prompt"]


def test_every_beginning_of_a_prompt_has_pieces() -> None:
    written = "a ((b:1.2) BREAK [c]: d\\) \\\\(e: -0.5 ) \\"
    for end in range(len(written) + 1):
        assert pieces_of(written[:end], "prompt")


@pytest.mark.parametrize("written", ["(" * (DEPTH + 1), "[" * (DEPTH + 1), "(a:" + "9" * 400 + ")"])
def test_out_of_bounds(written: str) -> None:
    with pytest.raises(InvalidValue):
        pieces_of(written, "prompt")


@pytest.mark.parametrize(
    "hostile",
    [
        " " * 64_000 + "x",
        ":" * 64_000,
        "(a)" * 21_000,
        "(" * 60 + "[]" * 32_000,
        "BREAK " * 10_000,
        "(:" + "1" * 64_000,
    ],
)
def test_hostile_prompts_cost_little_time(hostile: str) -> None:
    began = time.process_time()
    try:
        pieces_of(hostile, "prompt")
    except InvalidValue as error:
        assert error.fact("param") == "prompt"
    assert time.process_time() - began < 2
