"""Writes grammars in llguidance's Lark: literals with their control tokens, text up to a mark, JSON by a schema.

Shapes of rules come from here so that no format has to know how a vocabulary writes its marks: `<tool_call>` is text in
one model and a token that is no text in the next.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from server.core.text import Tool
from server.engines.text.constraint_limits import parsed_schema
from server.engines.text.constraints import spaced, split_control


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
        text = self.terminal(r"(.|\n)*")
        if mark in self._control:
            return f"{text} {self.literal(mark)}"
        return self.rule(f"{text} {self.literal(mark)}", attributes="[lazy]")

    def space(self) -> str:
        """Return the expression for a little white space, or none."""
        return self.terminal(r"[ \t\r\n]{0,8}")

    def json(self, schema: Any) -> str:
        """Return the expression for JSON text that a schema admits."""
        return f"%json {spaced(schema, lenient=self.lenient)}"

    def one_of(self, options: Iterable[str]) -> str:
        """Return the expression for any of the options."""
        return f"({' | '.join(options)})"

    def grammar(self, start: str) -> str:
        """Return the whole grammar, whose texts are those of `start`."""
        return "\n".join([f"start: {start}", *self._rules]) + "\n"


def parameters_of(tool: Tool) -> dict[str, Any]:
    """Return the schema of a tool's arguments, which are always an object; raise InvalidValue when it is none."""
    schema = parsed_schema(tool.parameters or "{}", "tools")
    if not isinstance(schema, dict):
        return {"type": "object"}
    return schema if schema.get("type") == "object" else {**schema, "type": "object"}
