"""Functionary v3.1 (`<function=f>{...}</function>`) and v3.2 (`>>>f`, a line break, `{...}`; `>>>all` is text)."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from server.core.text import Tool
from server.engines.text.tool_formats.base import Call
from server.engines.text.tool_formats.lark import LarkWriter
from server.engines.text.tool_formats.named_calls import NamedCallParser, NamedCalls

FUNCTIONARY_V31 = NamedCalls(
    opening="<function=", header=r"(?P<name>[^<>\n]+)>", head="{name}>", close="</function>", between=""
)
_V32 = NamedCalls(opening=">>>", header=r"(?P<name>[^\n]+)\n", head="{name}\n", between="")


class FunctionaryV32(NamedTuple):
    """The prompt ends with `>>>` already, so a reply begins with a name."""

    answer_head: str = "all\n"
    closings: tuple[str, ...] = ()
    thinks: bool = False
    wraps: bool = True
    sectioned: bool = False

    @property
    def marks(self) -> tuple[str, ...]:
        """Return the mark before a name."""
        return (">>>",)

    @property
    def trigger(self) -> re.Pattern[str]:
        """Match a name that the reply begins with, or one behind the mark."""
        return re.compile(r"(?:\A\s*|>>>)(?P<call>(?!all\n)[^\s>]+\n)")

    def written(self, calls: Sequence[Call]) -> str:
        """Return the text of calls as a model writes them."""
        return _V32.written(calls).removeprefix(_V32.opening)

    def calls(self, write: LarkWriter, tools: Sequence[Tool], *, many: bool) -> str:
        """Return the expression for one call of one of the tools, or with `many` for one or more."""
        one = _V32._replace(opening="").calls(write, tools, many=False)
        more = _V32.calls(write, tools, many=True)
        return f"{one} ({more})?" if many else one

    def parser(self, tools: Sequence[Tool], *, streams: bool) -> "FunctionaryV32Parser":
        """Return a new parser for one reply."""
        return FunctionaryV32Parser({tool.name for tool in tools}, streams=streams)


class FunctionaryV32Parser(NamedCallParser):
    """Reads names at the beginning and behind `>>>`; what follows `all`, or no known name, is text."""

    def __init__(self, names: set[str], *, streams: bool) -> None:
        super().__init__(_V32, streams=streams)
        self._names = names
        self._state = self._name

    def _name(self) -> bool:
        line, found, rest = self._buffer.partition("\n")
        name = line.strip()
        if not found:
            if any(option.startswith(name) for option in (*self._names, "all")):
                return False
        elif name == "all":
            self._raw = ""
            self._buffer = rest
            self._state = self._text
            return True
        elif name in self._names:
            self._state = super()._head
            return True
        self._raw = ""
        self._state = self._text
        return True

    def _head(self) -> bool:
        self._state = self._name
        return True


FUNCTIONARY_V32 = FunctionaryV32()
