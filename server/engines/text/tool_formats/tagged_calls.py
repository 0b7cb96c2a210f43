"""Calls with a tag for each argument; the values are plain text for strings and JSON for everything else.

<tool_call><function=f><parameter=a>1</parameter></function></tool_call>
<tool_call>f<arg_key>a</arg_key><arg_value>1</arg_value></tool_call>
"""

import ast
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from server.core.errors import InvalidValue
from server.core.text import Tool
from server.engines.text.tool_formats.lark import LarkWriter, parameters_of
from server.engines.text.tool_formats.pieces import Piece, Scanner, held_back

_SHAPING = ("enum", "const", "pattern", "format", "minLength", "maxLength", "$ref", "anyOf", "oneOf", "allOf")
_LONGEST_HEADER = 512
Schemas = Mapping[str, Mapping[str, Any]]


class TaggedCalls(NamedTuple):
    """A format of this family.

    A call begins with one of `openings`; `header` matches what follows up to the first argument, `key` the tag of an
    argument (both with the group `name`), `value_end` ends a value, `end` the call, and `close` may follow. For
    writing: `head` and `key_text` with `{name}`, `lead` and `trail` around a value, `tail` after the last argument.
    """

    openings: tuple[str, ...]
    header: str
    key: str
    value_end: str
    end: str
    head: str
    key_text: str
    lead: str
    trail: str
    tail: str
    close: str = ""
    other_marks: tuple[str, ...] = ()
    answer_head: str = ""
    thinks: bool = False

    @property
    def marks(self) -> tuple[str, ...]:
        """Return the marks around and inside calls."""
        return tuple(mark for mark in (*self.openings, self.value_end, self.close, *self.other_marks) if mark)

    @property
    def closings(self) -> tuple[str, ...]:
        """Return what ends a value that is plain text."""
        return (self.value_end + _after(self.trail),)

    @property
    def trigger(self) -> re.Pattern[str]:
        """Match the mark that calls are written with."""
        return re.compile(re.escape(self.openings[0]))

    @property
    def example(self) -> str:
        """Return a call of the function `name`."""
        value = self.key_text.format(name="argument") + self.lead + "value" + self.trail
        return self.head.format(name="name") + value + self.tail

    def calls(self, write: LarkWriter, tools: Sequence[Tool], *, many: bool) -> str:
        """Return the expression for one call of one of the tools, or with `many` for one or more."""
        one = write.rule(write.one_of(self._call(write, tool) for tool in tools))
        return f'{one} ("\\n" {one})*' if many else one

    def parser(self, tools: Sequence[Tool], *, streams: bool) -> "TaggedCallParser":
        """Return a new parser for one reply."""
        return TaggedCallParser(self, {tool.name: _properties(tool) for tool in tools}, streams=streams)

    def _call(self, write: LarkWriter, tool: Tool) -> str:
        schema = parameters_of(tool)
        properties = schema.get("properties") or {}
        if not isinstance(properties, dict) or any(key in schema for key in ("$ref", "anyOf", "oneOf", "allOf", "not")):
            raise InvalidValue.of("tools", f"the parameters of {tool.name!r} must be a plain object for this model")
        required = schema.get("required") or []
        shared: dict[str, Any] = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
        parts = [write.literal(self.head.format(name=tool.name))]
        for name, value in properties.items():
            value = value if isinstance(value, dict) else {}
            part = f"{write.literal(self.key_text.format(name=name))} {self._value(write, value, shared)}"
            parts.append(part if name in required else f"({part})?")
        for name in required:
            if name not in properties:
                raise InvalidValue.of("tools", f"{tool.name!r} requires {name!r}, which is none of its properties")
        return f"({' '.join([*parts, write.literal(self.tail)])})"

    def _value(self, write: LarkWriter, schema: Mapping[str, Any], shared: Mapping[str, Any]) -> str:
        end = write.literal(self.trail)
        choices = schema.get("enum", [schema["const"]] if "const" in schema else None)
        if isinstance(choices, list) and choices and all(is_plain(choice) for choice in choices):
            return f"{write.literal(self.lead)} {write.one_of(write.literal(choice) for choice in choices)} {end}"
        if is_free_text(schema):
            text = write.text_until(self.value_end)
            return f"{write.literal(self.lead)} {text} {write.literal(_after(self.trail))}"
        return f"{write.literal(self.lead)} {write.json({**schema, **shared})} {end}"


class TaggedCallParser(Scanner):
    """Reads calls of this family and writes their arguments as JSON."""

    def __init__(self, form: TaggedCalls, schemas: Mapping[str, Schemas], *, streams: bool) -> None:
        super().__init__(streams=streams)
        self._form = form
        self._schemas = schemas
        self._header = re.compile(rf"\s*{form.header}")
        self._key = re.compile(rf"\s*{form.key}")
        self._end = re.compile(rf"\s*{re.escape(form.end)}")
        self._properties: Schemas = {}
        self._value_name = ""
        self._written = False
        self._opened = False
        self._state = self._text

    def _text(self) -> bool:
        mark = self._until(self._form.openings)
        if mark is None:
            return False
        if mark == self._form.openings[0]:
            self._take(len(mark))
        self._state = self._head
        return True

    def _head(self) -> bool:
        found = self._header.match(self._buffer)
        if found is None:
            if len(self._buffer) > _LONGEST_HEADER or self._form.openings[0] in self._buffer:
                return self._reject()
            return False
        self._take(found.end())
        name = found["name"].strip()
        self._properties = self._schemas.get(name, {})
        self._begin(name)
        self._written = False
        self._state = self._between
        return True

    def _between(self) -> bool:
        """Stand before an argument or the end of the call."""
        if found := self._key.match(self._buffer):
            self._take(found.end())
            self._value_name = found["name"].strip()
            self._opened = False
            self._state = self._value
            return True
        if found := self._end.match(self._buffer):
            self._take(found.end())
            self._add("}" if self._written else "{}")
            self._complete()
            self._state = self._tail
            return True
        if len(self._buffer) > _LONGEST_HEADER:
            return self._reject()
        return False

    def _tail(self) -> bool:
        """Drop the mark behind the call."""
        start = self._buffer.lstrip()
        close = self._form.close
        if close and start.startswith(close):
            self._buffer = start[len(close) :]
        elif close and close.startswith(start):
            return False
        self._state = self._text
        return True

    def _value(self) -> bool:
        schema = self._properties.get(self._value_name, {"type": "string"})
        mark = self._form.value_end
        at = self._buffer.find(mark)
        if at < 0 and not (self.streams and is_free_text(schema)):
            return False
        if not is_free_text(schema):
            text = self._take(at).strip()
            self._take(len(mark))
            self._write_key()
            self._add(as_json(text, schema))
            self._state = self._between
            return True
        return self._free_text(at, mark)

    def _free_text(self, at: int, mark: str) -> bool:
        """Pass on a string's text; one line break at either end belongs to the tags."""
        if not self._opened:
            if self._buffer.startswith("\n") and self._form.lead == "\n":
                self._take(1)
                at = self._buffer.find(mark)
            self._write_key()
            self._add('"')
            self._opened = True
        ready = at if at >= 0 else len(self._buffer) - held_back(self._buffer, ("\n" + mark, mark))
        text = self._take(ready)
        if at >= 0 and self._form.trail.startswith("\n"):
            text = text.removesuffix("\n")
        self._add(json.dumps(text, ensure_ascii=False)[1:-1])
        if at < 0:
            return False
        self._take(len(mark))
        self._add('"')
        self._state = self._between
        return True

    def _write_key(self) -> None:
        self._add(f"{', ' if self._written else '{'}{json.dumps(self._value_name, ensure_ascii=False)}: ")
        self._written = True

    def finish(self) -> list[Piece]:
        """Return what was held back."""
        if self._state == self._tail:
            self._buffer = ""
        return super().finish()

    def _reject(self) -> bool:
        self._give_up()
        self._state = self._text
        if self._buffer.startswith(self._form.openings[1:]):
            self._say(self._buffer[:1])
            self._buffer = self._buffer[1:]
        return True


def is_plain(value: object) -> bool:
    """Tell whether a value can stand between tags as it is and is read back as the same string."""
    return isinstance(value, str) and value == value.strip() and "<" not in value and value != ""


def is_free_text(schema: Mapping[str, Any]) -> bool:
    """Tell whether any string will do."""
    return schema.get("type") == "string" and not any(key in schema for key in _SHAPING)


def as_json(text: str, schema: Mapping[str, Any]) -> str:
    """Return the JSON text for what stands between the tags of an argument that is not any string."""
    choices = schema.get("enum", [schema.get("const")])
    if isinstance(choices, list) and text in choices:
        return json.dumps(text, ensure_ascii=False)
    value = _value_of(text)
    if value is None or (schema.get("type") == "string" and not isinstance(value[0], str)):
        return json.dumps(text, ensure_ascii=False)
    return json.dumps(value[0], ensure_ascii=False)


def _value_of(text: str) -> tuple[Any] | None:
    """Return the value that a text stands for in JSON, or as models trained on Python write it; None for none."""
    for read in (json.loads, ast.literal_eval):
        try:
            value = read(text)
            json.dumps(value)
            return (value,)
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            continue
    return None


def _properties(tool: Tool) -> Schemas:
    try:
        properties = json.loads(tool.parameters).get("properties") or {}
        return {name: value if isinstance(value, dict) else {} for name, value in properties.items()}
    except (ValueError, AttributeError, RecursionError):
        return {}


def _after(trail: str) -> str:
    return trail[len(trail.rstrip()) :]
