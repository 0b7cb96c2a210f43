import pytest

from compat.a1111.prompt_syntax import Timing, parse_negative, parse_prompt
from compat.a1111.prompt_syntax.limits import LONGEST
from server.core.errors import InvalidValue
from server.core.prompt import Break, PromptPart, PromptTree, ScheduledText, Span

TEN = Timing(calls=10)


def test_all_levels_at_once() -> None:
    tree = parse_prompt("a [(b:1.2)|c] AND d BREAK e:0.5", Timing(calls=2))
    first, second = tree.parts
    assert first == PromptPart(
        (
            ScheduledText(1, (Span("a ", 1.0), Span("b", 1.2))),
            ScheduledText(2, (Span("a c", 1.0),)),
        ),
        1.0,
    )
    assert second == PromptPart((ScheduledText(2, (Span(" d"), Break(), Span("e"))),), 0.5)


def test_a_negative_prompt_is_one_part() -> None:
    tree = parse_negative("a AND b:0.5", TEN)
    assert tree == PromptTree((PromptPart((ScheduledText(10, (Span("a AND b:0.5"),)),), 1.0),))


def test_without_weights_brackets_are_text_but_switches_switch() -> None:
    (part,) = parse_prompt("(a:1.2) BREAK [b:c:0.5]", TEN, weighted=False).parts
    assert [text.pieces for text in part.texts] == [(Span("(a:1.2) BREAK b"),), (Span("(a:1.2) BREAK c"),)]


@pytest.mark.parametrize("text", ["a" * (LONGEST + 1), "ä" * (LONGEST // 2 + 1)])
def test_a_prompt_is_64_kib_at_most(text: str) -> None:
    with pytest.raises(InvalidValue, match="64 KiB"):
        parse_prompt(text, TEN)
    assert parse_prompt(text[:-1], TEN).parts
