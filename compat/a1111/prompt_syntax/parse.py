"""The three levels together: one text to one `PromptTree`."""

from compat.a1111.prompt_syntax.composition import split_parts
from compat.a1111.prompt_syntax.emphasis import pieces_of
from compat.a1111.prompt_syntax.limits import check_length
from compat.a1111.prompt_syntax.timeline import Timing, texts_of
from server.core.prompt import Piece, PromptPart, PromptTree, ScheduledText, Span

__all__ = ["Timing", "parse_negative", "parse_prompt"]


def parse_prompt(text: str, timing: Timing, *, weighted: bool = True, param: str = "prompt") -> PromptTree:
    """Return the tree of a prompt whose tags are already cut.

    `weighted` False takes brackets and BREAK literally (emphasis mode `None`).

    Raises:
        InvalidValue: beyond the bounds of `limits`; `param` names the field.
    """
    check_length(text, param)
    parts = split_parts(text, param)
    return PromptTree(tuple(_part(part, weight, timing, weighted, param) for part, weight in parts))


def parse_negative(text: str, timing: Timing, *, weighted: bool = True, param: str = "negative_prompt") -> PromptTree:
    """Return the tree of a negative prompt: one part always, `AND` is a word there."""
    check_length(text, param)
    return PromptTree((_part(text, 1.0, timing, weighted, param),))


def _part(text: str, weight: float, timing: Timing, weighted: bool, param: str) -> PromptPart:
    known: dict[str, tuple[Piece, ...]] = {}
    texts = []
    for until, scheduled in texts_of(text, timing, param):
        if scheduled not in known:
            known[scheduled] = pieces_of(scheduled, param) if weighted else (Span(scheduled),)
        texts.append(ScheduledText(until, known[scheduled]))
    return PromptPart(tuple(texts), weight)
