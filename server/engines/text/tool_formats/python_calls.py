"""Calls in Python's notation: LFM2's list of calls between marks, and what Gemma 3 puts into a fence.

<|tool_call_start|>[f(a="x", n=1), g()]<|tool_call_end|>
"""

import ast
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from server.core.text import Tool
from server.engines.text.tool_formats.base import Call
from server.engines.text.tool_formats.lark import LarkWriter, parameters_of, plain_properties
from server.engines.text.tool_formats.pieces import Scanner
from server.engines.text.tool_formats.values import json_text

_LONGEST = 65536
# What models trained on JSON write among arguments in Python.
_WORDS = {"true": True, "false": False, "null": None}
_NAME = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")


class PythonCalls(NamedTuple):
    """A list of calls between two marks. When held to a grammar, values are written as JSON, which is read too."""

    opening: str
    closing: str
    answer_head: str = ""
    closings: tuple[str, ...] = ()
    thinks: bool = False
    wraps: bool = False
    sectioned: bool = True

    @property
    def marks(self) -> tuple[str, ...]:
        """Return the marks around the list."""
        return (self.opening, self.closing)

    @property
    def trigger(self) -> re.Pattern[str]:
        """Match the mark before the list."""
        return re.compile(re.escape(self.opening))

    def written(self, calls: Sequence[Call]) -> str:
        """Return the text of calls as a model writes them."""
        texts = [f"{call.name}({', '.join(_written(call.arguments))})" for call in calls]
        return f"{self.opening}[{', '.join(texts)}]{self.closing}"

    def calls(self, write: LarkWriter, tools: Sequence[Tool], *, many: bool) -> str:
        """Return the expression for one call of one of the tools, or with `many` for one or more."""
        one = write.rule(write.one_of(_call(write, tool) for tool in tools))
        more = f" ({write.literal(', ')} {one})*" if many else ""
        return write.rule(f"{write.literal(self.opening + '[')} {one}{more} {write.literal(']' + self.closing)}")

    def parser(self, tools: Sequence[Tool], *, streams: bool) -> "PythonCallParser":
        """Return a new parser for one reply."""
        return PythonCallParser(self)


class PythonCallParser(Scanner):
    """Reads whole lists of calls."""

    def __init__(self, form: PythonCalls) -> None:
        super().__init__(streams=False)
        self._form = form
        self._state = self._text

    def _text(self) -> bool:
        mark = self._until((self._form.opening,))
        if mark is None:
            return False
        self._take(len(mark))
        self._state = self._body
        return True

    def _body(self) -> bool:
        at = self._buffer.find(self._form.closing)
        if at < 0:
            return False
        body = self._buffer[:at]
        self._take(at + len(self._form.closing))
        self._make(python_calls(body))
        self._state = self._text
        return True


def python_calls(text: str) -> list[tuple[str, str]]:
    """Return the calls in a piece of Python whose arguments are literals by name; none when it is anything else."""
    if len(text) > _LONGEST:
        return []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about backslashes that Python does not know
            lines = ast.parse(text.strip()).body
        return [_read(call) for line in lines for call in _calls_in(line)]
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return []


def _calls_in(line: ast.stmt) -> list[ast.expr]:
    value = line.value if isinstance(line, ast.Expr | ast.Assign) else None
    if isinstance(value, ast.Call) and ast.unparse(value.func) == "print" and len(value.args) == 1:
        value = value.args[0]
    if value is None:
        raise ValueError("not a call by names")
    return value.elts if isinstance(value, ast.List) else [value]


def _read(call: ast.expr) -> tuple[str, str]:
    if not isinstance(call, ast.Call) or call.args:
        raise ValueError("not a call by names")
    arguments = {keyword.arg: ast.literal_eval(_Words().visit(keyword.value)) for keyword in call.keywords}
    if None in arguments:
        raise ValueError("not a call by names")
    return ast.unparse(call.func).removeprefix("default_api."), json_text(
        json.loads(json.dumps(arguments))
    )  # joins halves of pairs


class _Words(ast.NodeTransformer):
    """Puts Python's values for the words of JSON."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """Return the constant that a word stands for, other names unchanged."""
        return ast.Constant(_WORDS[node.id]) if node.id in _WORDS else node


def _written(arguments: Mapping[str, Any]) -> list[str]:
    return [f"{name}={value!r}" for name, value in arguments.items()]


def _call(write: LarkWriter, tool: Tool) -> str:
    properties = plain_properties(tool.name, parameters_of(tool))
    row = write.row(
        [(f"{write.literal(name + '=')} {write.json(value)}", needed) for name, value, needed in properties], ", "
    )
    return f"({write.literal(tool.name + '(')} {row} {write.literal(')')})"


LFM2 = PythonCalls("<|tool_call_start|>", "<|tool_call_end|>")
