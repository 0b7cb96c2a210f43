"""What every format of calls can do."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from server.core.text import Tool
from server.engines.text.tool_formats.lark import LarkWriter
from server.engines.text.tool_formats.pieces import Parser


class Call(NamedTuple):
    """A call as a value."""

    name: str
    arguments: Mapping[str, Any]


class ToolFormat(Protocol):
    """How the models of one family write calls.

    `marks` are all marks in it; those that are control tokens must be written out for the parser. `trigger` matches
    where a call begins in the text of an answer. `answer_head` is what an answer without calls begins with. `wraps`
    tells whether answers without calls have marks around them too, so that the parser is always needed; `thinks`
    whether it tells thoughts apart by itself; `sectioned` whether all calls of a reply stand in one section.
    """

    @property
    def marks(self) -> tuple[str, ...]:
        """Return all texts that are not part of names or arguments."""
        ...

    @property
    def trigger(self) -> re.Pattern[str]:
        """Return what matches where a call begins, and nothing of what comes before."""
        ...

    @property
    def answer_head(self) -> str:
        """Return what stands before an answer that is no call."""
        ...

    @property
    def closings(self) -> tuple[str, ...]:
        """Return what ends arguments that are no JSON, or a row of calls, where it could go on for ever."""
        ...

    @property
    def thinks(self) -> bool:
        """Tell whether the parser finds thoughts by itself."""
        ...

    @property
    def wraps(self) -> bool:
        """Tell whether answers have marks around them."""
        ...

    @property
    def sectioned(self) -> bool:
        """Tell whether a second call can only follow in the section of the first."""
        ...

    def written(self, calls: Sequence[Call]) -> str:
        """Return the text of calls as a model writes them."""
        ...

    def calls(self, write: LarkWriter, tools: Sequence[Tool], *, many: bool) -> str:
        """Return the expression for one call of one of the tools, or with `many` for one or more."""
        ...

    def parser(self, tools: Sequence[Tool], *, streams: bool) -> Parser:
        """Return a new parser for one reply."""
        ...
