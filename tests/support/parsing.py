"""Ways to feed a parser, and its pieces in a short form that tables can hold."""

from server.engines.text.tool_formats.pieces import CallArguments, CallBegin, Parser, Piece, Said, Thought, merged

STEPS = (1, 2, 7, 10_000)

Short = list[str | tuple[str, str]]


def feed(parser: Parser, text: str, step: int) -> list[Piece]:
    """Return all pieces of a text that arrives so many characters at a time."""
    pieces: list[Piece] = []
    for start in range(0, len(text), step):
        pieces += parser.feed(text[start : start + step])
    return merged(pieces + parser.finish())


def short(pieces: list[Piece]) -> Short:
    """Return answers as texts, thoughts as ("", text) and calls as (name, arguments)."""
    out: Short = []
    for piece in pieces:
        match piece:
            case Said(text=text):
                out.append(text)
            case Thought(text=text):
                out.append(("", text))
            case CallBegin(name=name):
                out.append((name, ""))
            case CallArguments(text=text):
                name, before = out.pop()
                out.append((name, before + text))
    return out
