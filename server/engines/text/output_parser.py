"""A reply's text -> answer, thoughts and calls: the parser for one request, put together from what its template shows.

Requests without tools, of models that do not think, need no parser at all.
"""

from collections.abc import Sequence

from server.core.text import Tool
from server.engines.text.reasoning import ReasoningSplitter, ThoughtForm
from server.engines.text.tool_formats.base import ToolFormat
from server.engines.text.tool_formats.pieces import Parser, Piece, Said, Thought, merged


class AnswerText:
    """Passes on everything as text of the answer."""

    thinking = False
    streams = False

    def feed(self, text: str) -> list[Piece]:
        """Return the text."""
        return [Said(text)] if text else []

    def finish(self) -> list[Piece]:
        """Return nothing: nothing is ever held back."""
        return []


class ThoughtsShown:
    """Shows thoughts as text of the answer, between the usual marks, for requests that do not want them apart."""

    def __init__(self, parser: Parser, *, opened: bool) -> None:
        self._parser = parser
        self._inside = opened

    @property
    def thinking(self) -> bool:
        """Tell what the parser within does."""
        return self._parser.thinking

    @property
    def streams(self) -> bool:
        """Tell what the parser within does."""
        return self._parser.streams

    @streams.setter
    def streams(self, streams: bool) -> None:
        self._parser.streams = streams

    def feed(self, text: str) -> list[Piece]:
        """Take more text and return what is certain now."""
        return self._shown(self._parser.feed(text))

    def finish(self) -> list[Piece]:
        """Return what was held back."""
        return self._shown(self._parser.finish())

    def _shown(self, pieces: list[Piece]) -> list[Piece]:
        out: list[Piece] = []
        for piece in pieces:
            is_thought = isinstance(piece, Thought)
            if is_thought != self._inside:
                self._inside = is_thought
                out.append(Said("<think>\n" if is_thought else "\n</think>\n\n"))
            out.append(Said(piece.text) if isinstance(piece, Thought) else piece)
        return merged(out)


def make_parser(
    form: ToolFormat | None,
    tools: Sequence[Tool],
    thoughts: ThoughtForm | None,
    *,
    opened: bool,
    split: bool,
    streams: bool,
) -> Parser | None:
    """Return the parser for one reply, None when its whole text is the answer.

    Args:
        form: how calls are written; None when none are expected.
        tools: what may be called.
        thoughts: how thoughts are marked; None when there are none.
        opened: whether the prompt ends within thoughts.
        split: whether thoughts are wanted apart from the answer.
        streams: whether arguments are kept to their schema and so may be passed on as they come.
    """
    if form is not None and form.thinks:
        whole: Parser = form.parser(tools, streams=streams)
    else:
        answers = form.parser(tools, streams=streams) if form is not None and (tools or form.wraps) else None
        if thoughts is None:
            return answers
        whole = ReasoningSplitter(answers or AnswerText(), thoughts, opened=opened)
    if split:
        return whole
    return ThoughtsShown(whole, opened=opened)
