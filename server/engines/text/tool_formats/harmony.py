"""gpt-oss: messages in channels. `analysis` is thought, `final` the answer, and a message to a function is a call.

<|channel|>analysis<|message|>...<|end|><|start|>assistant<|channel|>final<|message|>...
<|channel|>commentary to=functions.f <|constrain|>json<|message|>{"a": 1}
"""

import json
import re
from collections.abc import Sequence
from typing import NamedTuple

from server.core.text import Tool
from server.engines.text.tool_formats.base import Call
from server.engines.text.tool_formats.lark import LarkWriter, parameters_of
from server.engines.text.tool_formats.pieces import Piece, Scanner, Thought, held_back

_START, _CHANNEL, _MESSAGE = "<|start|>", "<|channel|>", "<|message|>"
_ENDS = ("<|end|>", "<|call|>", "<|return|>")
_RECIPIENT = re.compile(r"to=(?:functions\.)?([\w.\-]+)")
_HEADS = (_START, _CHANNEL, _MESSAGE, "assistant", "to=", *_ENDS)
_LONGEST_HEADER = 256


class Harmony(NamedTuple):
    """The prompt ends with `<|start|>assistant`, so a reply begins within a message's header."""

    answer_head: str = "<|channel|>final<|message|>"
    closings: tuple[str, ...] = ()
    thinks: bool = True
    wraps: bool = True
    sectioned: bool = False

    @property
    def marks(self) -> tuple[str, ...]:
        """Return the marks of messages."""
        return (_START, _CHANNEL, _MESSAGE, "<|constrain|>", *_ENDS)

    @property
    def trigger(self) -> re.Pattern[str]:
        """Match the header of a message to a function."""
        return re.compile(r"(?P<call><\|channel\|>commentary to=functions\.)")

    def written(self, calls: Sequence[Call]) -> str:
        """Return the text of calls as a model writes them, each in a message of its own."""
        texts = [_head(call.name) + json.dumps(call.arguments, ensure_ascii=False) for call in calls]
        return f"{_ENDS[1]}{_START}assistant".join(texts)

    def calls(self, write: LarkWriter, tools: Sequence[Tool], *, many: bool) -> str:
        """Return the expression for a call of one of the tools; there is never more than one in a reply."""
        return write.rule(
            write.one_of(f"{write.literal(_head(tool.name))} {write.json(parameters_of(tool))}" for tool in tools)
        )

    def parser(self, tools: Sequence[Tool], *, streams: bool) -> "HarmonyParser":
        """Return a new parser for one reply."""
        return HarmonyParser(streams=streams)


def _head(name: str) -> str:
    return f"{_CHANNEL}commentary to=functions.{name} <|constrain|>json{_MESSAGE}"


class HarmonyParser(Scanner):
    """Reads messages one after the other. Text without any header is an answer."""

    def __init__(self, *, streams: bool) -> None:
        super().__init__(streams=streams)
        self._state = self._head

    def _head(self) -> bool:
        """Read a header up to the message."""
        start = self._buffer.lstrip()
        if not start:
            return False
        if not any(head.startswith(start) or start.startswith(head) for head in _HEADS):
            self._state = self._final
            return True
        header, found, rest = self._buffer.partition(_MESSAGE)
        if not found:
            if len(self._buffer) > _LONGEST_HEADER:
                self._buffer = ""  # nothing but marks and names of channels
            return False
        self._buffer = rest
        recipient = _RECIPIENT.search(header)
        if recipient is not None:
            self._raw = header + found
            self._begin(recipient[1])
            self._state = self._call
        elif f"{_CHANNEL}analysis" in header:
            self.thinking = True
            self._state = self._analysis
        else:
            self._state = self._final
        return True

    def _final(self) -> bool:
        mark = self._until((*_ENDS, _START))
        return mark is not None and self._next(mark)

    def _analysis(self) -> bool:
        marks = (*_ENDS, _START)
        at = min((self._buffer.find(mark) for mark in marks if mark in self._buffer), default=-1)
        ready = at if at >= 0 else self._safe(marks)
        if ready:
            self._out.append(Thought(self._buffer[:ready]))
            self._buffer = self._buffer[ready:]
        if at < 0:
            return False
        self.thinking = False
        return self._next(next(mark for mark in marks if self._buffer.startswith(mark)))

    def _call(self) -> bool:
        marks = (*_ENDS, _START)
        at = min((self._buffer.find(mark) for mark in marks if mark in self._buffer), default=-1)
        self._add(self._take(at if at >= 0 else self._safe(marks)))
        if at < 0:
            return False
        self._complete()
        return self._next(next(mark for mark in marks if self._buffer.startswith(mark)))

    def _next(self, mark: str) -> bool:
        self._buffer = self._buffer[len(mark) :]
        self._state = self._head
        return True

    def _safe(self, marks: Sequence[str]) -> int:
        return len(self._buffer) - held_back(self._buffer, marks)

    def finish(self) -> list[Piece]:
        """Return what was held back; a call ends with the reply, since its end mark is an end token."""
        if self._state == self._call:
            self._add(self._take(len(self._buffer)))
            self._complete()
        elif self._state == self._head:
            self._buffer = ""
        elif self._state == self._analysis and self._buffer:
            self._out.append(Thought(self._buffer))
            self._buffer = ""
        return super().finish()


HARMONY = Harmony()
