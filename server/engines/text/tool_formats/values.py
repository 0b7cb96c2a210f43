"""Values of arguments between JSON and the plainer texts that some formats write them as. Pure."""

import ast
import json
import warnings
from collections.abc import Mapping
from typing import Any

_SHAPING = ("enum", "const", "pattern", "format", "minLength", "maxLength", "$ref", "anyOf", "oneOf", "allOf")


def json_text(value: object) -> str:
    """Return a value as JSON with its characters written out, or escaped where they are halves of a pair."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value)
    return text


def as_text(value: object) -> str:
    """Return what stands between tags: strings as they are, everything else as JSON."""
    return value if isinstance(value, str) else json_text(value)


def plain_choices(schema: Mapping[str, Any]) -> list[str]:
    """Return the values that a schema admits when all of them are plain texts, none otherwise."""
    choices = schema.get("enum", [schema["const"]] if "const" in schema else None)
    return choices if isinstance(choices, list) and all(is_plain(choice) for choice in choices) else []


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
        return json_text(text)
    value = _value_of(text)
    if value is None or (schema.get("type") == "string" and not isinstance(value[0], str)):
        return json_text(text)
    return json_text(value[0])


def _value_of(text: str) -> tuple[Any] | None:
    """Return the value that a text stands for in JSON, or as models trained on Python write it; None for none."""
    for read in (json.loads, _literal):
        try:
            value = read(text)
            json.dumps(value)
            return (value,)
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            continue
    return None


def _literal(text: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about backslashes that Python does not know
        return ast.literal_eval(text)
