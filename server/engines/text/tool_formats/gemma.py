"""Gemma: FunctionGemma's and Gemma 4's own notation, and calls in Python that Gemma 3 puts into a `tool_code` fence.

<start_function_call>call:f{a:<escape>x<escape>,n:1}<end_function_call>
<|tool_call>call:f{a:<|"|>x<|"|>,n:1}<tool_call|>

```tool_code
f(a="x", n=1)
```
"""

import ast
import json
import re
from collections.abc import Sequence
from typing import NamedTuple

from server.core.text import Tool
from server.engines.text.tool_formats.lark import LarkWriter, parameters_of
from server.engines.text.tool_formats.pieces import Scanner

_FENCE = ("```tool_code", "```")
_BARE_KEY = re.compile(r"\s*([\w.\-]+)\s*:")
_CALL = re.compile(r"\s*call:(?P<name>[^{\s]+)\s*(?P<arguments>\{.*\})\s*", re.DOTALL)
_LONGEST_PYTHON = 65536


class Gemma(NamedTuple):
    """A notation of this family: what opens and closes a call, and what stands around strings."""

    opening: str
    closing: str
    quote: str
    answer_head: str = ""
    closings: tuple[str, ...] = ()
    thinks: bool = False

    @property
    def marks(self) -> tuple[str, ...]:
        """Return the marks around calls and strings."""
        return (self.opening, self.closing, self.quote)

    @property
    def trigger(self) -> re.Pattern[str]:
        """Match nothing: models write their own notation, which the grammar (with JSON inside) does not know."""
        return re.compile(r"(?!)")

    @property
    def example(self) -> str:
        """Return a call of the function `name`."""
        return f"{self.opening}call:name{{argument:{self.quote}value{self.quote}}}{self.closing}"

    def calls(self, write: LarkWriter, tools: Sequence[Tool], *, many: bool) -> str:
        """Return the expression for one call of one of the tools, or with `many` for one or more."""
        heads = write.one_of(
            f"{write.literal(f'{self.opening}call:{tool.name}')} {write.json(parameters_of(tool))}" for tool in tools
        )
        one = write.rule(f"{heads} {write.literal(self.closing)}")
        return f"({one})+" if many else one

    def parser(self, tools: Sequence[Tool], *, streams: bool) -> "GemmaParser":
        """Return a new parser for one reply."""
        return GemmaParser(self)


class GemmaParser(Scanner):
    """Reads whole calls."""

    def __init__(self, form: Gemma) -> None:
        super().__init__(streams=False)
        self._closes = {form.opening: form.closing, _FENCE[0]: _FENCE[1]}
        self._quote = form.quote
        self._open = ""
        self._state = self._text

    def _text(self) -> bool:
        mark = self._until(self._closes)
        if mark is None:
            return False
        self._take(len(mark))
        self._open = mark
        self._state = self._body
        return True

    def _body(self) -> bool:
        close = self._closes[self._open]
        at = self._buffer.find(close)
        if at < 0:
            return False
        body = self._buffer[:at]
        self._take(at + len(close))
        calls = python_calls(body) if self._open == _FENCE[0] else notation_calls(body, self._quote)
        for name, arguments in calls:
            self._begin(name)
            self._add(arguments)
            self._complete()
        if not calls:
            self._give_up()
        self._state = self._text
        return True


def notation_calls(text: str, quote: str) -> list[tuple[str, str]]:
    """Return the name and the arguments (JSON text) of a call in Gemma's notation; none when it is not one."""
    found = _CALL.fullmatch(text)
    if found is None:
        return []
    body = found["arguments"]
    try:
        arguments = json.loads(body)
    except (ValueError, RecursionError):
        try:
            arguments = json.loads(_to_json(body, quote))
        except (ValueError, RecursionError):
            return []
    return [(found["name"], json.dumps(arguments, ensure_ascii=False))] if isinstance(arguments, dict) else []


def python_calls(text: str) -> list[tuple[str, str]]:
    """Return the calls in a piece of Python whose arguments are literals by name; none when it is anything else."""
    if len(text) > _LONGEST_PYTHON:
        return []
    try:
        lines = ast.parse(text.strip()).body
        return [_python_call(line) for line in lines]
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return []


def _python_call(line: ast.stmt) -> tuple[str, str]:
    call = line.value if isinstance(line, ast.Expr | ast.Assign) else None
    if isinstance(call, ast.Call) and ast.unparse(call.func) == "print" and len(call.args) == 1:
        call = call.args[0]
    if not isinstance(call, ast.Call) or call.args:
        raise ValueError("not a call by names")
    name = ast.unparse(call.func).removeprefix("default_api.")
    arguments = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    if None in arguments:
        raise ValueError("not a call by names")
    return name, json.dumps(arguments, ensure_ascii=False)


def _to_json(text: str, quote: str) -> str:
    """Put keys and strings of Gemma's notation into JSON's quotes."""
    out = []
    for index, part in enumerate(text.split(quote)):
        out.append(json.dumps(part, ensure_ascii=False) if index % 2 else _quoted_keys(part))
    return "".join(out)


def _quoted_keys(text: str) -> str:
    return re.sub(r"(?<=[{,])" + _BARE_KEY.pattern, lambda key: f"{json.dumps(key[1])}:", text)


FUNCTION_GEMMA = Gemma("<start_function_call>", "<end_function_call>", "<escape>")
GEMMA_4 = Gemma("<|tool_call>", "<tool_call|>", '<|"|>')
