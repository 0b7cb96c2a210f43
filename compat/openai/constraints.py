"""What an answer must look like: the many names of a schema, a regex or a grammar, as one core constraint. Pure.

| on the wire | in the core |
|---|---|
| `response_format` `json_object` (with llama-server's `schema` beside it), `json_schema` | JSON |
| `json_schema`, `guided_json`, `structured_outputs.json`, `.json_object` | JSON |
| `regex`, `guided_regex`, `structured_outputs.regex` | a regex |
| `guided_choice`, `structured_outputs.choice` | a regex of the choices |
| `grammar`, `guided_grammar`, `structured_outputs.grammar` | a grammar: with `::=` GBNF, else Lark |
"""

from collections.abc import Iterator

import msgspec

from compat.openai import wire
from server.core.errors import InvalidValue, Unsupported
from server.core.text import Constraint, GrammarConstraint, JsonConstraint, RegexConstraint

ANY_OBJECT = '{"type":"object"}'
MAX_SCHEMA = 2**20

_SPECIAL = frozenset("\\.+*?()|[]{}^$#&-~")
_LARK_MARK = "%llguidance"


def constraint_to_core(
    request: wire.SamplerFields, form: wire.ResponseFormat | None, param: str = "response_format"
) -> Constraint | None:
    """Return what the answer must look like, None when it is free. `param` is the field that holds `form`.

    Raises:
        InvalidValue: two fields ask for different forms, or a form has no schema.
        Unsupported: a form that is not there.
    """
    wanted = [made for made in _all(request, form, param) if made is not None]
    if len(wanted) > 1:
        first, second = wanted[0].param, wanted[1].param
        raise InvalidValue.of(second, f"only one of '{first}' and '{second}' can be given")
    return wanted[0] if wanted else None


def _all(request: wire.SamplerFields, form: wire.ResponseFormat | None, param: str) -> Iterator[Constraint | None]:
    yield _format(form, param)
    yield _json(request.json_schema, "json_schema")
    yield _json(request.guided_json, "guided_json")
    yield _regex(request.regex, "regex")
    yield _regex(request.guided_regex, "guided_regex")
    yield _choice(request.guided_choice, "guided_choice")
    yield _grammar(request.grammar, "grammar")
    yield _grammar(request.guided_grammar, "guided_grammar")
    outputs = request.structured_outputs
    if outputs is None:
        return
    if outputs.structural_tag:
        raise Unsupported.of("structured_outputs.structural_tag", "structural tags are not supported by this server")
    yield _json(outputs.json, "structured_outputs.json")
    yield JsonConstraint(schema=ANY_OBJECT, param="structured_outputs.json_object") if outputs.json_object else None
    yield _regex(outputs.regex, "structured_outputs.regex")
    yield _choice(outputs.choice, "structured_outputs.choice")
    yield _grammar(outputs.grammar, "structured_outputs.grammar")


def _format(form: wire.ResponseFormat | None, param: str) -> Constraint | None:
    if form is None or form.type == "text":
        return None
    if form.type == "json_object":
        return JsonConstraint(schema=schema_text(form.schema, param) if form.schema else ANY_OBJECT, param=param)
    if form.type != "json_schema":
        raise InvalidValue.of(f"{param}.type", f"'{param}.type' must be text, json_object or json_schema")
    schema = form.json_schema.schema if form.json_schema else form.schema
    if schema is None:
        missing = f"{param}.json_schema.schema" if param == "response_format" else f"{param}.schema"
        raise InvalidValue.of(missing, f"Missing required parameter: '{missing}'.")
    return JsonConstraint(schema=schema_text(schema, param), param=param)


def _json(schema: wire.JsonObject | str | None, param: str) -> Constraint | None:
    if not schema:
        return None
    if not isinstance(schema, str):
        return JsonConstraint(schema=schema_text(schema, param), param=param)
    try:
        schema = msgspec.json.decode(schema, type=wire.JsonObject)
    except msgspec.DecodeError:
        raise InvalidValue.of(param, f"'{param}' is a text that is not a JSON object") from None
    return JsonConstraint(schema=schema_text(schema, param), param=param)


def schema_text(schema: wire.JsonObject, param: str) -> str:
    """Return a schema as JSON text; raise InvalidValue when it is too large to be looked at."""
    encoded = msgspec.json.encode(schema)
    if len(encoded) > MAX_SCHEMA:
        raise InvalidValue.of(param, f"'{param}' has a schema of over {MAX_SCHEMA} bytes")
    return encoded.decode()


def _regex(pattern: str | None, param: str) -> Constraint | None:
    return RegexConstraint(pattern=pattern, param=param) if pattern else None


def _choice(choices: list[str] | None, param: str) -> Constraint | None:
    if not choices:
        return None
    return RegexConstraint(pattern="|".join(map(_literal, choices)), param=param)


def _literal(text: str) -> str:
    return "".join(f"\\{char}" if char in _SPECIAL else char for char in text)


def _grammar(grammar: str | None, param: str) -> Constraint | None:
    if not grammar:
        return None
    is_lark = grammar.lstrip().startswith(_LARK_MARK) or "::=" not in grammar
    return GrammarConstraint(grammar=grammar, syntax="lark" if is_lark else "gbnf", param=param)
