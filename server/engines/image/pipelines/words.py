"""A prompt tree as plain text, for text encoders that know neither weights nor schedules."""

from server.core.prompt import Break, PromptPart, PromptTree, Span


def text_of(prompt: PromptTree) -> str:
    """Return the words of a prompt: members of a composition in a row, of each schedule the first text.

    >>> from server.core.prompt import plain
    >>> text_of(plain("a cat"))
    'a cat'
    """
    return " ".join(text for text in map(_text, prompt.parts) if text)


def lost_of(prompt: PromptTree) -> tuple[str, ...]:
    """Return what the text alone does not say: `emphasis`, `schedules`, `composition`."""
    pieces = [piece for part in prompt.parts for text in part.texts for piece in text.pieces]
    lost = {
        "emphasis": any(isinstance(piece, Span) and piece.weight != 1.0 for piece in pieces),
        "schedules": any(len(part.texts) > 1 for part in prompt.parts),
        "composition": len(prompt.parts) > 1,
    }
    return tuple(name for name, is_lost in lost.items() if is_lost)


def _text(part: PromptPart) -> str:
    words = (" " if isinstance(piece, Break) else piece.text for piece in part.texts[0].pieces)
    return "".join(words).strip()
