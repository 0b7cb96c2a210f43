"""Image prompts as a tree: composition of parts, each with a schedule of texts made of weighted spans.

A dialect parses its own syntax into this; `server.engines.image.conditioning` gives it meaning.

| written in the A1111 dialect | tree |
|---|---|
| `a cat` | one part, one text, one span of weight 1 |
| `(a:1.2) cat` | one text, spans `a` 1.2 and ` cat` 1 |
| `[a:b:0.5]`, 20 steps | one part, texts until call 10 (`a`) and until call 20 (`b`) |
| `a AND b:0.6` | two parts, weights 1 and 0.6 |
| `a BREAK b` | one text of spans `a`, a break, `b` |
"""

import msgspec


class Span(msgspec.Struct, frozen=True, tag="span"):
    """A run of text with one attention weight; tokenised by itself."""

    text: str
    weight: float = 1.0


class Break(msgspec.Struct, frozen=True, tag="break"):
    """Close the current chunk of 75 tokens here."""


Piece = Span | Break


class ScheduledText(msgspec.Struct, frozen=True):
    """One text of a part's schedule, used by model calls 0..`until` that no earlier text covers."""

    until: int
    pieces: tuple[Piece, ...]


class PromptPart(msgspec.Struct, frozen=True):
    """One member of a composition. All texts of a part are encoded together: they share one emphasis factor."""

    texts: tuple[ScheduledText, ...]
    weight: float = 1.0


class PromptTree(msgspec.Struct, frozen=True):
    """A parsed prompt: at least one part, each with at least one text, sorted by `until`."""

    parts: tuple[PromptPart, ...]


def plain(text: str) -> PromptTree:
    """Return the tree of a prompt without any syntax."""
    return PromptTree((PromptPart((ScheduledText(1_000_000, (Span(text),)),)),))
