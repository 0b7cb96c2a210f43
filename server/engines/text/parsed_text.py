"""The text of one reply, through its parser, as events: answer, thoughts, and calls with ids made here."""

import secrets
import string
from collections.abc import Sequence

from server.core.text import ReasoningDelta, TextDelta, ToolCallDelta
from server.engines.text.stop_strings import StopStrings
from server.engines.text.token_trail import TokenTrail
from server.engines.text.tool_formats.pieces import CallArguments, CallBegin, Parser, Piece, Said, Thought

Delta = TextDelta | ReasoningDelta | ToolCallDelta

_ID_CHARACTERS = string.ascii_letters + string.digits
_ID_LENGTH = 24


class ParsedText:
    """Makes the events of one choice. Stop strings are looked for in its answer alone.

    `calls` counts the calls. `is_over` tells that a call more than allowed began, or a stop string was found: what
    follows is not wanted.
    """

    def __init__(self, choice: int, parser: Parser, stops: StopStrings, trail: TokenTrail, *, many: bool) -> None:
        self.parser = parser
        self.calls = 0
        self.is_over = False
        self._choice = choice
        self._stops = stops
        self._trail = trail
        self._many = many

    def feed(self, text: str) -> list[Delta]:
        """Take the text of the next tokens and return what it brings."""
        return self._events(self.parser.feed(text))

    def finish(self, text: str) -> list[Delta]:
        """Take the last text and return everything that was held back."""
        events = self._events(self.parser.feed(text) + self.parser.finish())
        if not self._stops.found and (held := self._stops.flush()):
            events.append(self._said(held))
        return events

    def _events(self, pieces: Sequence[Piece]) -> list[Delta]:
        events: list[Delta] = []
        for piece in pieces:
            if self.is_over:
                break
            events += self._event(piece)
        return events

    def _event(self, piece: Piece) -> list[Delta]:
        match piece:
            case Said(text=text):
                shown = self._stops.feed(text)
                self.is_over = self._stops.found
                return [self._said(shown)] if shown else []
            case Thought(text=text):
                told = self._trail.take_all()
                return [ReasoningDelta(choice=self._choice, text=text, tokens=told.tokens, logprobs=told.logprobs)]
            case CallBegin(name=name):
                return self._begin(name)
            case CallArguments(text=text):
                told = self._trail.take_all()
                return [
                    ToolCallDelta(
                        choice=self._choice,
                        index=self.calls - 1,
                        arguments=text,
                        tokens=told.tokens,
                        logprobs=told.logprobs,
                    )
                ]

    def _begin(self, name: str) -> list[Delta]:
        if self.calls and not self._many:
            self.is_over = True
            return []
        held = self._stops.flush()
        before: list[Delta] = [self._said(held)] if held else []
        told = self._trail.take_all()
        self.calls += 1
        begin = ToolCallDelta(
            choice=self._choice,
            index=self.calls - 1,
            id=new_id(),
            name=name,
            tokens=told.tokens,
            logprobs=told.logprobs,
        )
        return [*before, begin]

    def _said(self, text: str) -> TextDelta:
        told = self._trail.take_all()
        return TextDelta(choice=self._choice, text=text, tokens=told.tokens, logprobs=told.logprobs)


def new_id() -> str:
    """Return an id for a call that no other call has."""
    return "call_" + "".join(secrets.choice(_ID_CHARACTERS) for _ in range(_ID_LENGTH))
