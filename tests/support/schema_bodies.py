"""Request bodies made from the house's own description of its routes, and ways to spoil them."""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

from litestar import Litestar

from tests.support.mutation import places

DEEPEST = 6
DEEP = "@deep@"
HUGE = "@huge@"
# What JSON cannot say as a Python value: put in place of a text after encoding.
RAW: Mapping[bytes, bytes] = {
    f'"{DEEP}"'.encode(): b"[" * 50_000 + b"]" * 50_000,
    f'"{HUGE}"'.encode(): b"9" * 5000,
}
SPOILERS: Sequence[Any] = (
    None, True, 0, -1, -(2**31) - 1, 2**31, 2**32, 2**53 + 1, 2**63, 2**64, -(2**64), 1e308, -1e308, 1e-320, 0.5,
    float("nan"), float("inf"), float("-inf"), DEEP, HUGE, "", " ", "x", "-1", "NaN", "1e999", "\x00", "\x1b[2J\r\n",
    "\ud800", "\udfff\ud800", "\U0001f600" * 9, "x" * 3000, "../../etc/passwd", "file:///etc/passwd",
    "data:image/png;base64,", "{{7*7}}", "(" * 500, "[a:b:" * 200, [], [[]], [None], [[], {}, "", 1], [1] * 200,
    ["s"] * 10_000, [{}] * 50, {}, {"": None}, {"a": {"b": [1]}}, {"role": "nobody", "content": "x"},
    [{"role": "nobody", "content": "x"}], [{"role": "tool", "content": "42", "tool_call_id": "none"}],
    [{"type": "nothing"}], {"type": "nothing"}, {str(k): k for k in range(300)},
)  # fmt: skip


Description = Mapping[str, Any]


def described(app: Litestar) -> Description:
    """Return the app's own description of its routes; costs a fifth of a second."""
    return app.openapi_schema.to_schema()


def described_posts(app: Litestar, description: Description) -> dict[str, dict[str, Any]]:
    """Return the path of every POST route of the app with its described JSON body; an empty schema when it has none.

    The paths come from the route table itself, so that a route that is left out of the description is found too.
    """
    found: dict[str, dict[str, Any]] = {}
    for route in app.routes:
        if any("POST" in getattr(handler, "http_methods", ()) for handler in getattr(route, "route_handlers", ())):
            path = str(getattr(route, "path_format", route.path))
            post = description["paths"].get(path, {}).get("post", {})
            content = post.get("requestBody", {}).get("content", {})
            found[path] = content.get("application/json", {}).get("schema", {})
    return found


class Bodies:
    """Makes bodies that fit a schema. `wishes` are values for properties of a name, to get past the first look."""

    def __init__(self, description: Description, dice: random.Random, wishes: Mapping[str, Any]) -> None:
        self._schemas = description["components"]["schemas"]
        self._dice = dice
        self._wishes = wishes

    def made(self, schema: Mapping[str, Any], *, share: float = 0.3) -> Any:
        """Return a value that fits: required properties, and this share of the others."""
        return self._made(schema, share, 0)

    def fields(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        """Return the schemas of an object's properties by name."""
        return dict(self._resolved(schema).get("properties", {}))

    def _resolved(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        while "$ref" in schema:
            schema = self._schemas[str(schema["$ref"]).rpartition("/")[2]]
        return schema

    def _made(self, schema: Mapping[str, Any], share: float, depth: int) -> Any:
        schema = self._resolved(schema)
        for choice in ("oneOf", "anyOf"):
            if schema.get(choice):
                return self._made(self._dice.choice(schema[choice]), share, depth + 1)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._dice.choice(schema["enum"])
        kind = schema.get("type", "null")
        kind = self._dice.choice(kind) if isinstance(kind, list) else kind
        if kind == "object":
            return self._object(schema, share, depth)
        if kind == "array":
            count = 0 if depth > DEEPEST else self._dice.randint(1, 2)
            return [self._made(schema.get("items", {}), share, depth + 1) for _ in range(count)]
        return self._scalar(kind, schema)

    def _object(self, schema: Mapping[str, Any], share: float, depth: int) -> dict[str, Any]:
        made: dict[str, Any] = {}
        required = schema.get("required", ())
        for name, inner in schema.get("properties", {}).items():
            wanted = name in required or (depth <= DEEPEST and self._dice.random() < share)
            if name in self._wishes:
                made[name] = deepcopy(self._wishes[name])
            elif wanted:
                made[name] = self._made(inner, share, depth + 1)
        return made

    def _scalar(self, kind: str, schema: Mapping[str, Any]) -> Any:
        if kind == "string":
            return self._dice.choice(("hi", "a b c", "user", "x" * int(schema.get("minLength", 1))))
        if kind == "number":
            return round(self._dice.random(), 3)
        if kind == "integer":
            low = int(schema.get("minimum", 0))
            return self._dice.randint(low, max(low, min(int(schema.get("maximum", 3)), low + 3)))
        return self._dice.random() < 0.5 if kind == "boolean" else None


def written(body: Any) -> bytes:
    """Return a body as JSON, NaN, lone surrogates and the placeholders of what cannot be a Python value included."""
    encoded = json.dumps(body).encode()
    for placeholder, raw in RAW.items():
        encoded = encoded.replace(placeholder, raw)
    return encoded


def spoiled(body: Any, dice: random.Random) -> bytes:
    """Return the body with one or two values replaced or removed, and sometimes with wrong bytes."""
    body = deepcopy(body)
    for _ in range(dice.randint(1, 2)):
        there = places(body)
        if not there:
            return written(dice.choice(SPOILERS))
        path = dice.choice(there)
        owner: Any = body
        for key in path[:-1]:
            owner = owner[key]
        if dice.random() < 0.15:
            del owner[path[-1]]
        else:
            owner[path[-1]] = deepcopy(dice.choice(SPOILERS))
    encoded = bytearray(written(body))
    if dice.random() < 0.15:
        for _ in range(dice.randint(1, 4)):
            encoded[dice.randrange(len(encoded))] = dice.randrange(256)
    if dice.random() < 0.05:
        del encoded[dice.randrange(len(encoded)) :]
    return bytes(encoded)


def each_field_wrong(bodies: Bodies, schema: Mapping[str, Any], dice: random.Random) -> Iterator[tuple[str, bytes]]:
    """Yield, for every property, a fitting body in which only that one is wrong, each time in two of many ways."""
    for name in bodies.fields(schema):
        for value in dice.sample(SPOILERS, 2):
            yield name, written({**bodies.made(schema, share=0.1), name: value})
