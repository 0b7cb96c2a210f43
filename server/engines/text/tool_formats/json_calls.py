"""Calls that are JSON objects with a name and arguments, between marks, in a list, or bare.

<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>      [TOOL_CALLS][{"name": "f", "arguments": {}}]
{"name": "f", "parameters": {"a": 1}}; {"name": "g", "parameters": {}}      <|tools_prefix|>[{"f": {"a": 1}}]
"""

import json
import re
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from server.core.text import Tool
from server.engines.text.tool_formats.base import Call
from server.engines.text.tool_formats.lark import LarkWriter, counted, parameters_of
from server.engines.text.tool_formats.pieces import JsonEnd, Scanner
from server.engines.text.tool_formats.values import json_text

_NAME_KEYS = ("name", "tool_name", "function")
_ARGUMENT_KEYS = ("arguments", "parameters", "args", "input")
_FIRST_KEYS = frozenset({*_NAME_KEYS, *_ARGUMENT_KEYS, "type", "id", "index", "tool_call_id"})

_OTHER = r'(?:"(?:type|id|index|tool_call_id)"\s*:\s*(?:"[^"\\]*"|\d+)\s*,\s*)*'
_HEAD = re.compile(
    rf'\{{\s*{_OTHER}"(?:name|tool_name)"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*{_OTHER}'
    r'"(?:arguments|parameters)"\s*:\s*(?=\{)'
)
_KEYED_HEAD = re.compile(r'\{\s*("(?:[^"\\]|\\.)*")\s*:\s*(?=\{)')
_FIRST_KEY = re.compile(r'\{\s*"((?:[^"\\]|\\.)*)"')


class JsonCalls(NamedTuple):
    """A format of this family.

    `opens` are the marks before a call with what closes each ("" = nothing does). `bare` says that an answer may also
    begin with a call without any mark. Calls are written with the first mark, `before` and `after` next to the marks,
    `between` two of them; `lead` stands first in each, `name_key` and `key` before name and arguments, or with `keyed`
    the name is itself the key of the arguments. `together` puts all of them between one pair of marks, `listed` into
    one list. `noise` are marks around answers.
    """

    opens: tuple[tuple[str, str], ...] = ()
    bare: bool = False
    before: str = ""
    after: str = ""
    between: str = "\n"
    lead: str = ""
    name_key: str = "name"
    key: str = "arguments"
    keyed: bool = False
    listed: bool = False
    together: bool = False
    noise: tuple[str, ...] = ()
    answer_head: str = ""
    closings: tuple[str, ...] = ()
    thinks: bool = False

    @property
    def marks(self) -> tuple[str, ...]:
        """Return the marks that open and close calls, and those around answers."""
        return (*(mark for pair in self.opens for mark in pair if mark), *self.noise)

    @property
    def wraps(self) -> bool:
        """Tell whether answers have marks around them."""
        return bool(self.noise)

    @property
    def sectioned(self) -> bool:
        """Tell whether all calls stand between one pair of marks."""
        return self.listed or self.together

    @property
    def trigger(self) -> re.Pattern[str]:
        """Match the mark that calls are written with, or a bare call at the beginning."""
        if not self.bare:
            return re.compile(re.escape(self.opens[0][0]))
        marked = "|".join([r"\A", *(re.escape(mark) for mark, _ in self.opens)])
        return re.compile(rf'(?:{marked})\s*(?P<call>\{{\s*"name"\s*:)')

    def written(self, calls: Sequence[Call]) -> str:
        """Return the text of calls as a model writes them."""
        texts = [
            counted(self._head(call.name), index) + json.dumps(call.arguments, ensure_ascii=False) + "}"
            for index, call in enumerate(calls)
        ]
        opening, closing = self._edges()
        if self.sectioned:
            return f"{opening}{self._separator().join(texts)}{closing}"
        return self.between.join(f"{opening}{text}{closing}" for text in texts)

    def calls(self, write: LarkWriter, tools: Sequence[Tool], *, many: bool) -> str:
        """Return the expression for one call of one of the tools, or with `many` for one or more."""
        one = write.rule(write.one_of(self._object(write, tool) for tool in tools))
        opening, closing = (write.literal(edge) for edge in self._edges())
        if self.sectioned:
            more = f" ({write.literal(self._separator())} {one})*" if many else ""
            return write.rule(f"{opening} {one}{more} {closing}")
        whole = write.rule(f"{opening} {one} {closing}")
        return f"{whole} ({write.literal(self.between)} {whole})*" if many else whole

    def parser(self, tools: Sequence[Tool], *, streams: bool) -> "JsonCallParser":
        """Return a new parser for one reply."""
        return JsonCallParser(self, {tool.name for tool in tools}, streams=streams)

    def _object(self, write: LarkWriter, tool: Tool) -> str:
        return f"{write.filled(self._head(tool.name))} {write.json(parameters_of(tool))} {write.literal('}')}"

    def _head(self, name: str) -> str:
        """Return what stands before the arguments."""
        quoted = json.dumps(name, ensure_ascii=False)
        return f"{{{quoted}: " if self.keyed else f'{{{self.lead}"{self.name_key}": {quoted}, "{self.key}": '

    def _separator(self) -> str:
        return ", " if self.listed else self.between

    def _edges(self) -> tuple[str, str]:
        opening, closing = ("", "") if self.bare or not self.opens else self.opens[0]
        first, last = ("[", "]") if self.listed else ("", "")
        return opening + self.before + first, last + self.after + closing


class JsonCallParser(Scanner):
    """Reads calls of this family. A bare object is a call only when it names a tool that was offered."""

    def __init__(self, form: JsonCalls, names: Collection[str], *, streams: bool) -> None:
        super().__init__(streams=streams, noise=form.noise)
        self._closes = dict(form.opens)
        self._bare = form.bare
        self._keyed = form.keyed
        self._names = names
        self._close = ""
        self._marked = False
        self._made = False
        self._end = JsonEnd()
        self._scanned = 0
        self._state = self._beginning if form.bare else self._text

    def _beginning(self) -> bool:
        """Look whether the answer, or what follows a bare call, begins with one."""
        start = self._buffer.lstrip(" \t\r\n;" if self._called else None)
        if not start:
            return False
        if start[0] == "{":
            self._take(len(self._buffer) - len(start))
            self._marked = False
            return self._to_object()
        self._state = self._text
        return True

    def _text(self) -> bool:
        mark = self._until(self._closes)
        if mark is None:
            return False
        self._take(len(mark))
        self._close = self._closes[mark]
        self._marked = True
        self._made = False
        self._state = self._items
        return True

    def _items(self) -> bool:
        """Stand between the marks: before, between or after the objects."""
        start = self._buffer.lstrip(" \t\r\n,;[")
        self._take(len(self._buffer) - len(start))
        if not start:
            return False
        if start[0] == "{":
            return self._to_object()
        if start[0] == "]":
            self._take(1)
            if not self._close:
                return self._leave()
            return True
        if self._close and start.startswith(self._close):
            self._take(len(self._close))
            return self._leave()
        if self._close and self._close.startswith(start):
            return False
        return self._leave()

    def _leave(self) -> bool:
        """Go back to text; marks without a call between them are text."""
        if not self._made:
            self._give_up()
        self._raw = ""
        self._state = self._text
        return True

    def _to_object(self) -> bool:
        self._end = JsonEnd()
        self._scanned = 0
        self._state = self._object
        return True

    def _object(self) -> bool:
        """Collect an object until it ends, or until its beginning tells that it is a call."""
        if not self._marked and not self._may_be_call():
            return self._reject()
        pattern = _KEYED_HEAD if self._keyed else _HEAD
        if self.streams and (head := pattern.match(self._buffer)) and self._known(name := json.loads(head[1])):
            self._take(head.end())
            self._begin(name)
            self._end = JsonEnd()
            self._state = self._arguments
            return True
        fresh = self._buffer[self._scanned :]
        end = self._end.scan(fresh)
        if end is None:
            self._scanned = len(self._buffer)
            return False
        text = self._buffer[: self._scanned + end]
        call = read_keyed(text) if self._keyed else read_call(text)
        if call is None or not self._known(call[0]):
            return self._reject()
        self._take(self._scanned + end)
        self._begin(call[0])
        self._add(call[1])
        return self._done()

    def _may_be_call(self) -> bool:
        rest = self._buffer[1:].lstrip()
        if rest and rest[0] != '"':
            return False
        key = _FIRST_KEY.match(self._buffer)
        return key is None or key[1] in _FIRST_KEYS

    def _is_certain(self) -> bool:
        return self._marked

    def _known(self, name: str) -> bool:
        return self._marked or name in self._names

    def _reject(self) -> bool:
        """Show an object that is no call, with the mark before it; go on behind its first bracket."""
        self._take(1)
        self._give_up()
        self._state = self._text
        return True

    def _arguments(self) -> bool:
        end = self._end.scan(self._buffer)
        self._add(self._take(len(self._buffer) if end is None else end))
        if end is None:
            return False
        self._end = JsonEnd(depth=1)
        self._state = self._rest
        return True

    def _rest(self) -> bool:
        """Drop what stands in the object after its arguments."""
        end = self._end.scan(self._buffer)
        self._take(len(self._buffer) if end is None else end)
        return False if end is None else self._done()

    def _done(self) -> bool:
        self._made = self._complete() or self._made
        self._state = self._items if self._marked else self._beginning
        return True


def read_keyed(text: str) -> tuple[str, str] | None:
    """Return the name and the arguments (JSON text) of a call whose name is the only key, None for anything else."""
    try:
        call: Any = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return None
    if not isinstance(call, dict) or len(call) != 1:
        return None
    name, arguments = next(iter(call.items()))
    return (name, json_text(arguments)) if isinstance(arguments, dict) else None


def read_call(text: str) -> tuple[str, str] | None:
    """Return the name and the arguments (JSON text) of a call, None when the text is none."""
    try:
        call: Any = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return None
    if isinstance(call, dict) and isinstance(call.get("function"), dict):
        call = call["function"]
    if not isinstance(call, dict):
        return None
    name = next((call[key] for key in _NAME_KEYS if isinstance(call.get(key), str)), None)
    if not name:
        return None
    arguments: Any = next((call[key] for key in _ARGUMENT_KEYS if key in call), {})
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            return None
    if arguments is None:
        arguments = {}
    return (name, json_text(arguments)) if isinstance(arguments, dict) else None
