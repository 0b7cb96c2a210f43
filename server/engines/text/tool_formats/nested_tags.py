"""Lists and objects as tags within tags: MiniMax M3 puts a mark of its own before each.

#<item>#<a>1#</a>#</item>      [{"a": 1}], where # is the mark

Models that are held to a grammar write JSON instead, which can be kept to any schema; it is read too.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from server.engines.text.tool_formats.values import as_json, as_text, is_free_text, json_text

_ITEM = "item"
_DEEPEST = 64


class NestedTags(NamedTuple):
    """How values inside values are written: `mark` stands before every tag."""

    mark: str

    def written(self, value: Any) -> str:
        """Return what stands between the tags of a value."""
        match value:
            case Mapping():
                return "".join(self._tag(key, self.written(item)) for key, item in value.items() if item is not None)
            case list():
                return "".join(self._tag(_ITEM, self.written(item)) for item in value)
        return as_text(value)

    def read(self, text: str, schema: Mapping[str, Any], depth: int = 0) -> str:
        """Return the JSON text for what stands between the tags of a value."""
        found = self._tags(text) if depth < _DEEPEST else []
        if not found:
            return json_text(text) if is_free_text(schema) else as_json(text, schema)
        if all(name == _ITEM for name, _ in found):
            inner = _as_schema(schema.get("items"))
            return f"[{', '.join(self.read(body, inner, depth + 1) for _, body in found)}]"
        described = _as_schema(schema.get("properties"))
        pairs = [
            f"{json_text(name)}: {self.read(body, _as_schema(described.get(name)), depth + 1)}" for name, body in found
        ]
        return f"{{{', '.join(pairs)}}}"

    def _tag(self, name: str, body: str) -> str:
        return f"{self.mark}<{name}>{body}{self.mark}</{name}>"

    def _tags(self, text: str) -> list[tuple[str, str]]:
        """Return the outermost tags with what stands between them; none when the text is anything else."""
        mark = re.escape(self.mark)
        tags = re.compile(rf"{mark}<(?P<closes>/?)(?P<name>[^<>/]+)>")
        out: list[tuple[str, str]] = []
        open_names: list[str] = []
        begun = after = 0
        for found in tags.finditer(text):
            if not found["closes"]:
                if not open_names:
                    if text[after : found.start()].strip():
                        return []
                    begun = found.end()
                open_names.append(found["name"])
            elif not open_names or open_names.pop() != found["name"]:
                return []
            elif not open_names:
                out.append((found["name"], text[begun : found.start()]))
                after = found.end()
        return [] if open_names or text[after:].strip() else out


def _as_schema(schema: object) -> Mapping[str, Any]:
    return schema if isinstance(schema, dict) else {}
