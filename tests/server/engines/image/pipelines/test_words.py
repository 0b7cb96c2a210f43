"""Prompt trees as plain words."""

import pytest

from server.core.prompt import Break, PromptPart, PromptTree, ScheduledText, Span, plain
from server.engines.image.pipelines.words import lost_of, text_of


def part(*texts: tuple[Span | Break, ...]) -> PromptPart:
    return PromptPart(tuple(ScheduledText(5 * (place + 1), pieces) for place, pieces in enumerate(texts)))


CASES = [
    (plain("a cat"), "a cat", ()),
    (plain(""), "", ()),
    (PromptTree((part((Span("a "), Span("red", 1.3), Span(" cat"))),)), "a red cat", ("emphasis",)),
    (PromptTree((part((Span("a"), Break(), Span("b"))),)), "a b", ()),
    (PromptTree((part((Span("first"),), (Span("then"),)),)), "first", ("schedules",)),
    (PromptTree((part((Span("one"),)), part((Span("two", 0.5),)))), "one two", ("emphasis", "composition")),
]


@pytest.mark.parametrize(("prompt", "text", "lost"), CASES)
def test_words_remain_and_the_rest_is_named(prompt: PromptTree, text: str, lost: tuple[str, ...]) -> None:
    assert (text_of(prompt), lost_of(prompt)) == (text, lost)
