"""Writes grammars in llguidance's Lark: literals with their control tokens, text up to a mark, JSON by a schema.

Shapes of rules come from here so that no format has to know how a vocabulary writes its marks: `<tool_call>` is text in
one model and a token that is no text in the next.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from server.core.errors import InvalidValue
from server.core.text import Tool
from server.engines.text.constraint_limits import parsed_schema
from server.engines.text.constraints import spaced, split_control

_ANY = r"(.|\n)*"
_COUNTED = {"{index}": "[0-9]{1,3}", "{number}": "[1-9][0-9]{0,2}", "{id}": "[a-z0-9]{10}"}
_PLACES = re.compile("|".join(f"({re.escape(place)})" for place in _COUNTED))


class LarkWriter:
    """Collects the rules of one grammar. With `lenient` unknown keywords of schemas are ignored."""

    def __init__(self, control: Mapping[str, int], *, lenient: bool = False) -> None:
        self.lenient = lenient
        self._control = dict(control)
        self._rules: list[str] = []

    def literal(self, text: str) -> str:
        """Return the expression for exactly this text."""
        parts = [
            json.dumps(part, ensure_ascii=False) if token is None else f"<[{token}]>"
            for part, token in split_control(text, self._control)
        ]
        return " ".join(parts) or '""'

    def filled(self, text: str) -> str:
        """Return the expression for a text with places that differ from call to call, see `counted`."""
        parts = [part for part in _PLACES.split(text) if part]
        return " ".join(self.terminal(_COUNTED[part]) if part in _COUNTED else self.literal(part) for part in parts)

    def rule(self, body: str, *, attributes: str = "") -> str:
        """Add a rule and return its name."""
        name = f"x{len(self._rules)}"
        self._rules.append(f"{name}{attributes}: {body}")
        return name

    def terminal(self, pattern: str) -> str:
        """Add a terminal for a regular expression (whose slashes are escaped) and return its name."""
        name = f"T{len(self._rules)}"
        self._rules.append(f"{name}: /{pattern}/")
        return name

    def text_until(self, mark: str) -> str:
        """Return the expression for any text and then the mark, at its first place."""
        beginning, token = split_control(mark, self._control)[0]
        if token is None and beginning == mark:
            return self.rule(f"{self.terminal(_ANY)} {self.literal(mark)}", attributes="[lazy]")
        # No text matches a control token, so it ends the text by itself.
        before = "" if token is not None else beginning
        text = self.terminal(_ANY + re.escape(before).replace("/", r"\/"))
        return f"{text} {self.literal(mark.removeprefix(before))}"

    def space(self) -> str:
        """Return the expression for a little white space, or none."""
        return self.terminal(r"[ \t\r\n]{0,8}")

    def json(self, schema: Any) -> str:
        """Return the expression for JSON text that a schema admits."""
        return f"%json {spaced(schema, lenient=self.lenient)}"

    def one_of(self, options: Iterable[str]) -> str:
        """Return the expression for any of the options."""
        return f"({' | '.join(options)})"

    def row(self, elements: Sequence[tuple[str, bool]], between: str) -> str:
        """Return the expression for elements in their order with a separator between any two.

        Each element is an expression, and whether it must be there. Rules share their ends, so that the grammar grows
        with the number of elements and not faster.
        """
        separator = self.literal(between)
        after = first = '""'
        for element, needed in reversed(elements):
            one = self.rule(element)
            begun = f"{one} {after}"
            first = self.rule(begun if needed else f"({begun} | {first})")
            after = self.rule(f"{separator} {begun}" if needed else f"({separator} {one})? {after}")
        return first

    def grammar(self, start: str) -> str:
        """Return the whole grammar, whose texts are those of `start`."""
        return "\n".join([f"start: {start}", *self._rules]) + "\n"


def counted(text: str, index: int) -> str:
    """Return a text with its places filled: `{index}` counts calls from 0, `{number}` from 1, an `{id}` is made up."""
    return text.replace("{index}", str(index)).replace("{number}", str(index + 1)).replace("{id}", f"call{index:06d}")


def parameters_of(tool: Tool) -> dict[str, Any]:
    """Return the schema of a tool's arguments, which are always an object; raise InvalidValue when it is none."""
    schema = parsed_schema(tool.parameters or "{}", "tools")
    if not isinstance(schema, dict):
        return {"type": "object"}
    return schema if schema.get("type") == "object" else {**schema, "type": "object"}


def plain_properties(name: str, schema: Mapping[str, Any]) -> list[tuple[str, dict[str, Any], bool]]:
    """Return the properties of a tool's arguments, for formats that write each by itself.

    Each is its name, its schema (with the definitions that it may refer to) and whether it must be there.

    Raises:
        InvalidValue: the object is more than a list of properties, or one that must be there is not described.
    """
    properties = schema.get("properties") or {}
    if not isinstance(properties, dict) or any(key in schema for key in ("$ref", "anyOf", "oneOf", "allOf", "not")):
        raise InvalidValue.of("tools", f"the parameters of {name!r} must be a plain object for this model")
    required = schema.get("required") or []
    for needed in required:
        if needed not in properties:
            raise InvalidValue.of("tools", f"{name!r} requires {needed!r}, which is none of its properties")
    shared = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
    return [
        (key, {**value, **shared} if isinstance(value, dict) else {}, key in required)
        for key, value in properties.items()
    ]
