"""Calls that are a mark, the function's name, a separator, and the arguments as a JSON object.

[TOOL_CALLS]f[ARGS]{"a": 1}        <function=f>{"a": 1}</function>        <|tool_call_begin|>functions.f:0 ... {"a": 1}
"""

import json
import re
from collections.abc import Sequence
from typing import NamedTuple

from server.core.text import Tool
from server.engines.text.tool_formats.base import Call
from server.engines.text.tool_formats.lark import LarkWriter, counted, parameters_of
from server.engines.text.tool_formats.pieces import JsonEnd, Piece, Scanner, first_of

_LONGEST_HEADER = 512
_TAIL = " \t\r\n`"


class NamedCalls(NamedTuple):
    """A format of this family.

    A call begins with `opening`; `header` matches what follows up to the arguments, with the group `name`. `close` ends
    it and `noise` are marks around calls and answers that mean nothing more. For writing: `prefix` before everything,
    `head` the header's text with `{name}`, `tail` after the arguments, `between` two calls, `suffix` after everything.
    """

    opening: str
    header: str
    head: str
    close: str = ""
    noise: tuple[str, ...] = ()
    prefix: str = ""
    tail: str = ""
    between: str = ""
    suffix: str = ""
    other_marks: tuple[str, ...] = ()
    answer_head: str = ""
    thinks: bool = False
    wraps: bool = False

    @property
    def sectioned(self) -> bool:
        """Tell whether there is something around all calls."""
        return bool(self.prefix)

    @property
    def marks(self) -> tuple[str, ...]:
        """Return the marks around and inside calls."""
        inside = tuple(re.findall(r"<[^<>]*[|\uff5c][^<>]*>|\[[A-Z_]+\]", self.head))
        return tuple(
            dict.fromkeys(mark for mark in (self.opening, self.close, *self.noise, *inside, *self.other_marks) if mark)
        )

    @property
    def closings(self) -> tuple[str, ...]:
        """Return what ends a row of calls."""
        return (self.suffix,) if self.suffix else ()

    @property
    def trigger(self) -> re.Pattern[str]:
        """Match the mark that calls are written with."""
        return re.compile(re.escape(self.prefix or self.opening))

    def written(self, calls: Sequence[Call]) -> str:
        """Return the text of calls as a model writes them."""
        texts = [
            counted(self._head(call.name), index)
            + json.dumps(call.arguments, ensure_ascii=False)
            + self.tail
            + self.close
            for index, call in enumerate(calls)
        ]
        return f"{self.prefix}{self.between.join(texts)}{self.suffix}"

    def calls(self, write: LarkWriter, tools: Sequence[Tool], *, many: bool) -> str:
        """Return the expression for one call of one of the tools, or with `many` for one or more."""
        heads = [f"{write.filled(self._head(tool.name))} {write.json(parameters_of(tool))}" for tool in tools]
        one = write.rule(f"{write.one_of(heads)} {write.literal(self.tail + self.close)}")
        more = f" ({write.literal(self.between)} {one})*" if many else ""
        return write.rule(f"{write.literal(self.prefix)} {one}{more} {write.literal(self.suffix)}")

    def _head(self, name: str) -> str:
        return self.opening + self.head.replace("{name}", name)

    def parser(self, tools: Sequence[Tool], *, streams: bool) -> "NamedCallParser":
        """Return a new parser for one reply."""
        return NamedCallParser(self, streams=streams)


class NamedCallParser(Scanner):
    """Reads calls of this family."""

    def __init__(self, form: NamedCalls, *, streams: bool) -> None:
        super().__init__(streams=streams, noise=form.noise)
        self._form = form
        self._header = re.compile(rf"\s*{form.header}\s*(?=\S)", re.DOTALL)
        self._end = JsonEnd()
        self._state = self._text

    def _text(self) -> bool:
        mark = self._until((self._form.opening,))
        if mark is None:
            return False
        self._take(len(mark))
        self._state = self._head
        return True

    def _head(self) -> bool:
        found = self._header.match(self._buffer)
        if found is None:
            hopeless = first_of(self._buffer, [mark for mark in (self._form.opening, self._form.close) if mark])
            if hopeless is None and len(self._buffer) <= _LONGEST_HEADER:
                return False
            return self._reject()
        if self._buffer[found.end()] != "{":
            return self._reject()
        self._take(found.end())
        self._begin(found["name"].strip())
        self._end = JsonEnd()
        self._state = self._arguments
        return True

    def _arguments(self) -> bool:
        end = self._end.scan(self._buffer)
        self._add(self._take(len(self._buffer) if end is None else end))
        if end is None:
            return False
        self._state = self._tail if self._complete() else self._text
        return True

    def _tail(self) -> bool:
        """Drop the fence and the mark behind the arguments."""
        start = self._buffer.lstrip(_TAIL)
        close = self._form.close
        if close and start.startswith(close):
            self._buffer = start[len(close) :]
        elif not start or (close and close.startswith(start)):
            return False
        self._state = self._text
        return True

    def _reject(self) -> bool:
        self._give_up()
        self._state = self._text
        return True

    def finish(self) -> list[Piece]:
        """Return what was held back."""
        if self._state == self._tail:
            self._buffer = ""
        return super().finish()
