"""Prompt trees."""

from server.core.prompt import Span, plain


def test_a_plain_prompt_is_one_span_of_weight_one_for_all_steps() -> None:
    (part,) = plain("a (cat").parts
    (text,) = part.texts
    assert part.weight == 1.0
    assert text.pieces == (Span("a (cat", 1.0),)
    assert text.until > 1000
