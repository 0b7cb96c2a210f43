"""Calls with a tag for each argument; the values are plain text for strings and JSON for everything else.

<tool_call><function=f><parameter=a>1</parameter></function></tool_call>
<tool_call>f<arg_key>a</arg_key><arg_value>1</arg_value></tool_call>
<invoke name="f"><parameter name="a">1</parameter></invoke>
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from server.core.text import Tool
from server.engines.text.tool_formats.base import Call
from server.engines.text.tool_formats.lark import LarkWriter, counted, parameters_of, plain_properties
from server.engines.text.tool_formats.nested_tags import NestedTags
from server.engines.text.tool_formats.pieces import Piece, Scanner, held_back
from server.engines.text.tool_formats.values import as_json, as_text, is_free_text, json_text, plain_choices

_LONGEST_HEADER = 512
_STRING: Mapping[str, Any] = {"type": "string"}
_TEXT_KINDS = ("true", "string")
Schemas = Mapping[str, Mapping[str, Any]]
_KINDS = {"integer": "number"}


class TaggedCalls(NamedTuple):
    """A format of this family.

    A call begins with one of `openings`; `header` matches what follows up to the first argument, `key` the tag of an
    argument (both with the group `name`, the key also with a group `kind` where the tag tells a value's type),
    `value_end` ends a value, `end` the call, and `close` may follow. A value between the two marks of `verbatim` is
    text. With `nested`, lists and objects are tags too. `noise` are marks around calls and answers, some of
    them with the `{name}` of a tool.

    For writing: `prefix` and `suffix` around all calls and `between` two of them; `head` and `key_text` with `{name}`
    (the key also with `{kind}` or `{is_text}`), `lead` and `trail` around a value, `tail` after the last argument.
    `text_end` is what no text can hold, if that is less than what ends a value. `begins` matches where a call begins
    if that is not its first mark.
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
    prefix: str = ""
    between: str = "\n"
    suffix: str = ""
    text_end: str = ""
    begins: str = ""
    verbatim: tuple[str, str] | None = None
    nested: NestedTags | None = None
    noise: tuple[str, ...] = ()
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
        marks = (*self.openings, self.value_end, self.end, self.close, *self.noise, *self.other_marks)
        return tuple(dict.fromkeys(mark for mark in marks if mark))

    @property
    def closings(self) -> tuple[str, ...]:
        """Return what ends a value that is plain text, and a row of calls."""
        return ((self.text_end or self.value_end) + _after(self.trail), *([self.suffix] if self.suffix else []))

    @property
    def trigger(self) -> re.Pattern[str]:
        """Match the mark that calls are written with."""
        return re.compile(self.begins or re.escape(self.prefix.strip() or self.openings[0]))

    def written(self, calls: Sequence[Call]) -> str:
        """Return the text of calls as a model writes them."""
        texts = [counted(self._text(call), index) for index, call in enumerate(calls)]
        return f"{self.prefix}{self.between.join(texts)}{self.suffix}"

    def calls(self, write: LarkWriter, tools: Sequence[Tool], *, many: bool) -> str:
        """Return the expression for one call of one of the tools, or with `many` for one or more."""
        one = write.rule(write.one_of(self._call(write, tool) for tool in tools))
        more = f" ({write.literal(self.between)} {one})*" if many else ""
        return write.rule(f"{write.literal(self.prefix)} {one}{more} {write.literal(self.suffix)}")

    def parser(self, tools: Sequence[Tool], *, streams: bool) -> "TaggedCallParser":
        """Return a new parser for one reply."""
        return TaggedCallParser(self, {tool.name: _properties(tool) for tool in tools}, streams=streams)

    def _text(self, call: Call) -> str:
        values = [self._written(name, value) for name, value in call.arguments.items()]
        return "".join([self.head.replace("{name}", call.name), *values, self.tail])

    def _written(self, name: str, value: Any) -> str:
        text = self.nested.written(value) if self.nested is not None else as_text(value)
        if self.verbatim is not None and any(char in text for char in "<&\n"):
            text = f"{self.verbatim[0]}{text}{self.verbatim[1]}"
        return self._key(name, _kind(value)) + self.lead + text + self._filled(self.trail, name)

    def _call(self, write: LarkWriter, tool: Tool) -> str:
        parts = [write.filled(self.head.replace("{name}", tool.name))]
        for name, value, needed in plain_properties(tool.name, parameters_of(tool)):
            part = self._value(write, name, value)
            parts.append(part if needed else f"({part})?")
        return f"({' '.join([*parts, write.literal(self.tail)])})"

    def _value(self, write: LarkWriter, name: str, schema: Mapping[str, Any]) -> str:
        trail = self._filled(self.trail, name)
        if choices := plain_choices(schema):
            body = f"{write.one_of(write.literal(choice) for choice in choices)} {write.literal(trail)}"
            kind = "string"
        elif is_free_text(schema):
            end = self._filled(self.value_end, name)
            stop = self.text_end or end
            body = f"{write.text_until(stop)} {write.literal(end.removeprefix(stop) + _after(trail))}"
            kind = "string"
        else:
            told = schema.get("type")
            kind = _KINDS.get(told, told) if isinstance(told, str) and told != "string" else "object"
            body = f"{write.json(schema)} {write.literal(trail)}"
        return f"{write.literal(self._key(name, kind) + self.lead)} {body}"

    def _key(self, name: str, kind: str) -> str:
        told = self.key_text.replace("{kind}", kind).replace("{is_text}", "true" if kind == "string" else "false")
        return self._filled(told, name)

    @staticmethod
    def _filled(text: str, name: str) -> str:
        return text.replace("{name}", name)


class TaggedCallParser(Scanner):
    """Reads calls of this family and writes their arguments as JSON."""

    def __init__(self, form: TaggedCalls, schemas: Mapping[str, Schemas], *, streams: bool) -> None:
        super().__init__(streams=streams, noise=noise_of(form, schemas))
        self._form = form
        self._schemas = schemas
        self._header = re.compile(rf"\s*{form.header}")
        self._key = re.compile(rf"\s*{form.key}")
        self._end = re.compile(rf"\s*{re.escape(form.end)}")
        self._properties: Schemas = {}
        self._value_name = ""
        self._value_schema = _STRING
        self._value_end = form.value_end
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
            self._value_name = name = found["name"].strip()
            self._value_schema = told_schema(self._described(name), found.groupdict().get("kind"))
            self._value_end = self._form.value_end.replace("{name}", name)
            self._opened = False
            self._state = self._value if self._form.verbatim is None else self._verbatim
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

    def _described(self, name: str) -> Mapping[str, Any] | None:
        # Tags within tags tell by themselves what they hold.
        return self._properties.get(name, None if self._form.nested is None else {})

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

    def _verbatim(self) -> bool:
        """Look whether a value begins with the mark of text that may hold anything."""
        opening, closing = self._form.verbatim or ("", "")
        if self._buffer.startswith(opening):
            self._take(len(opening))
            self._value_schema = _STRING
            self._value_end = closing + self._value_end
        elif opening.startswith(self._buffer):
            return False
        self._state = self._value
        return True

    def _value(self) -> bool:
        schema = self._value_schema
        mark = self._value_end
        at = self._buffer.find(mark)
        if at < 0 and not (self.streams and is_free_text(schema)):
            return False
        if is_free_text(schema):
            return self._free_text(at, mark)
        text = self._take(at).strip()
        self._take(len(mark))
        self._write_key()
        nested = self._form.nested
        self._add(as_json(text, schema) if nested is None else nested.read(text, schema))
        self._state = self._between
        return True

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
        self._add(json_text(text)[1:-1])
        if at < 0:
            return False
        self._take(len(mark))
        self._add('"')
        self._state = self._between
        return True

    def _write_key(self) -> None:
        self._add(f"{', ' if self._written else '{'}{json_text(self._value_name)}: ")
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


def noise_of(form: TaggedCalls, names: Iterable[str]) -> list[str]:
    """Return the marks that mean nothing, for tools of these names."""
    named = [mark.replace("{name}", name) for mark in form.noise for name in names if "{name}" in mark]
    return [*named, *(mark for mark in form.noise if "{name}" not in mark)]


def told_schema(schema: Mapping[str, Any] | None, kind: str | None) -> Mapping[str, Any]:
    """Return the schema of a value whose tag may tell its kind; without either it is any string."""
    if kind in _TEXT_KINDS:
        return schema if schema is not None and schema.get("type", "string") != "string" else _STRING
    if schema is None:
        return _STRING if kind is None else {}
    return schema


def _properties(tool: Tool) -> Schemas:
    try:
        properties = json.loads(tool.parameters).get("properties") or {}
        return {name: value if isinstance(value, dict) else {} for name, value in properties.items()}
    except (ValueError, AttributeError, RecursionError):
        return {}


def _kind(value: object) -> str:
    match value:
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case None:
            return "null"
        case list():
            return "array"
    return "object"


def _after(trail: str) -> str:
    return trail[len(trail.rstrip()) :]
