"""Gemma: FunctionGemma's and Gemma 4's own notation, and calls in Python that Gemma 3 puts into a `tool_code` fence.

<start_function_call>call:f{a:<escape>x<escape>,n:1}<end_function_call>
<|tool_call>call:f{a:<|"|>x<|"|>,n:1}<tool_call|>

```tool_code
f(a="x", n=1)
```
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from server.core.text import Tool
from server.engines.text.tool_formats.base import Call
from server.engines.text.tool_formats.lark import LarkWriter, parameters_of, plain_properties
from server.engines.text.tool_formats.pieces import Scanner
from server.engines.text.tool_formats.python_calls import python_calls
from server.engines.text.tool_formats.values import is_free_text, json_text, plain_choices

_FENCE = ("```tool_code", "```")
_BARE_KEY = re.compile(r"\s*([\w.\-]+)\s*:")
_CALL = re.compile(r"\s*call:(?P<name>[^{\s]+)\s*(?P<arguments>\{.*\})\s*", re.DOTALL)


class Gemma(NamedTuple):
    """A notation of this family: what opens and closes a call, and what stands around strings.

    When held to a grammar, values inside lists and objects are written as JSON, which is read too.
    """

    opening: str
    closing: str
    quote: str
    answer_head: str = ""
    thinks: bool = False
    wraps: bool = False
    sectioned: bool = False

    @property
    def marks(self) -> tuple[str, ...]:
        """Return the marks around calls and strings."""
        return (self.opening, self.closing, self.quote)

    @property
    def closings(self) -> tuple[str, ...]:
        """Return what ends a string."""
        return (self.quote,)

    @property
    def trigger(self) -> re.Pattern[str]:
        """Match the mark before a call."""
        return re.compile(re.escape(self.opening))

    def written(self, calls: Sequence[Call]) -> str:
        """Return the text of calls as a model writes them."""
        return "".join(f"{self.opening}call:{call.name}{self._value(call.arguments)}{self.closing}" for call in calls)

    def calls(self, write: LarkWriter, tools: Sequence[Tool], *, many: bool) -> str:
        """Return the expression for one call of one of the tools, or with `many` for one or more."""
        heads = write.one_of(self._call(write, tool) for tool in tools)
        one = write.rule(f"{heads} {write.literal('}' + self.closing)}")
        return f"({one})+" if many else one

    def parser(self, tools: Sequence[Tool], *, streams: bool) -> "GemmaParser":
        """Return a new parser for one reply."""
        return GemmaParser(self)

    def _call(self, write: LarkWriter, tool: Tool) -> str:
        properties = plain_properties(tool.name, parameters_of(tool))
        elements = [
            (f"{write.literal(f'{key}:')} {self._admitted(write, value)}", needed) for key, value, needed in properties
        ]
        return f"{write.literal(f'{self.opening}call:{tool.name}{{')} {write.row(elements, ',')}"

    def _admitted(self, write: LarkWriter, schema: Mapping[str, Any]) -> str:
        if choices := plain_choices(schema):
            return write.one_of(write.literal(f"{self.quote}{choice}{self.quote}") for choice in choices)
        if is_free_text(schema):
            return f"{write.literal(self.quote)} {write.text_until(self.quote)}"
        return write.json(schema)

    def _value(self, value: Any) -> str:
        match value:
            case str():
                return f"{self.quote}{value}{self.quote}"
            case Mapping():
                return "{" + ",".join(f"{key}:{self._value(item)}" for key, item in value.items()) + "}"
            case list():
                return "[" + ",".join(map(self._value, value)) + "]"
        return json_text(value)


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
        self._make(python_calls(body) if self._open == _FENCE[0] else notation_calls(body, self._quote))
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
    return [(found["name"], json_text(arguments))] if isinstance(arguments, dict) else []


def _to_json(text: str, quote: str) -> str:
    """Put keys and strings of the notation into JSON's quotes; strings in JSON's own quotes stay as they are."""
    strings = re.compile(rf'{re.escape(quote)}(?P<own>.*?){re.escape(quote)}|"(?:[^"\\]|\\.)*"', re.DOTALL)
    out, after = [], 0
    for found in strings.finditer(text):
        out.append(_quoted_keys(text[after : found.start()]))
        out.append(found[0] if found["own"] is None else json.dumps(found["own"], ensure_ascii=False))
        after = found.end()
    return "".join([*out, _quoted_keys(text[after:])])


def _quoted_keys(text: str) -> str:
    return re.sub(r"(?<=[{,])" + _BARE_KEY.pattern, lambda key: f"{json.dumps(key[1])}:", text)


FUNCTION_GEMMA = Gemma("<start_function_call>", "<end_function_call>", "<escape>")
GEMMA_4 = Gemma("<|tool_call>", "<tool_call|>", '<|"|>')
