"""What every format of calls can do."""

import re
from collections.abc import Sequence
from typing import Protocol

from server.core.text import Tool
from server.engines.text.tool_formats.lark import LarkWriter
from server.engines.text.tool_formats.pieces import Parser


class ToolFormat(Protocol):
    """How the models of one family write calls.

    `marks` are all marks in it; those that are control tokens must be written out for the parser. `trigger` matches
    where a call begins in the text of an answer. `example` shows a model that was not trained on tools how to write one
    call. `answer_head` is what an answer without calls begins with. `thinks` tells whether the parser tells thoughts
    apart by itself.
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
    def example(self) -> str:
        """Return a call of the function `name` with one argument."""
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

    def calls(self, write: LarkWriter, tools: Sequence[Tool], *, many: bool) -> str:
        """Return the expression for one call of one of the tools, or with `many` for one or more."""
        ...

    def parser(self, tools: Sequence[Tool], *, streams: bool) -> Parser:
        """Return a new parser for one reply."""
        ...
