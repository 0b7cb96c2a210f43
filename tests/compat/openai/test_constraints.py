"""The many names of a form that the answer must have."""

import re
from typing import Any

import msgspec
import pytest

from compat.openai import wire
from compat.openai.constraints import ANY_OBJECT, constraint_to_core
from server.core.errors import InvalidValue, Unsupported
from server.core.text import Constraint, GrammarConstraint, JsonConstraint, RegexConstraint

SCHEMA = {"type": "object", "properties": {"z": {"type": "integer"}, "a": {"type": "string"}}}
TEXT = '{"type":"object","properties":{"z":{"type":"integer"},"a":{"type":"string"}}}'
LARK = 'start: "a"'
GBNF = 'root ::= "a"'


def constraint(**fields: Any) -> Constraint | None:
    body = {"messages": [{"role": "user", "content": "hi"}], **fields}
    request = msgspec.convert(body, wire.ChatCompletionRequest)
    return constraint_to_core(request, request.response_format)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"response_format": None}, None),
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": {"type": "json_object"}}, JsonConstraint(schema=ANY_OBJECT)),
        ({"response_format": {"type": "json_object", "schema": SCHEMA}}, JsonConstraint(schema=TEXT)),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "strict": True, "schema": SCHEMA},
                }
            },
            JsonConstraint(schema=TEXT),
        ),
        ({"response_format": {"type": "json_schema", "schema": SCHEMA}}, JsonConstraint(schema=TEXT)),
        ({"json_schema": SCHEMA}, JsonConstraint(schema=TEXT, param="json_schema")),
        ({"json_schema": {}, "grammar": "", "regex": "", "guided_choice": []}, None),
        ({"guided_json": SCHEMA}, JsonConstraint(schema=TEXT, param="guided_json")),
        ({"guided_json": TEXT}, JsonConstraint(schema=TEXT, param="guided_json")),
        ({"regex": "a+"}, RegexConstraint(pattern="a+")),
        ({"guided_regex": "a+"}, RegexConstraint(pattern="a+", param="guided_regex")),
        ({"grammar": GBNF}, GrammarConstraint(grammar=GBNF)),
        ({"grammar": LARK}, GrammarConstraint(grammar=LARK, syntax="lark")),
        ({"grammar": "%llguidance {}\n# ::="}, GrammarConstraint(grammar="%llguidance {}\n# ::=", syntax="lark")),
        ({"guided_grammar": GBNF}, GrammarConstraint(grammar=GBNF, param="guided_grammar")),
        ({"structured_outputs": {"json": SCHEMA}}, JsonConstraint(schema=TEXT, param="structured_outputs.json")),
        (
            {"structured_outputs": {"json_object": True}},
            JsonConstraint(schema=ANY_OBJECT, param="structured_outputs.json_object"),
        ),
        ({"structured_outputs": {"regex": "b"}}, RegexConstraint(pattern="b", param="structured_outputs.regex")),
        (
            {"structured_outputs": {"grammar": LARK}},
            GrammarConstraint(grammar=LARK, syntax="lark", param="structured_outputs.grammar"),
        ),
        ({"structured_outputs": {}}, None),
    ],
)
def test_forms(fields: dict[str, Any], expected: Constraint | None) -> None:
    assert constraint(**fields) == expected


@pytest.mark.parametrize("name", ["guided_choice", "structured_outputs"])
def test_choices_are_a_regex_of_their_texts(name: str) -> None:
    choices = ["a.b", "x|y", "(1)", "é ü", "$5-#&~^[]{}\\*+?"]
    made = constraint(**{name: choices if name == "guided_choice" else {"choice": choices}})
    assert isinstance(made, RegexConstraint)
    assert all(re.fullmatch(made.pattern, choice) for choice in choices)
    assert not re.fullmatch(made.pattern, "aXb") and not re.fullmatch(made.pattern, "x")


@pytest.mark.parametrize(
    ("fields", "error", "param"),
    [
        ({"response_format": {"type": "yaml"}}, InvalidValue, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, InvalidValue, "response_format.json_schema.schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
            InvalidValue,
            "response_format.json_schema.schema",
        ),
        ({"response_format": {"type": "json_object"}, "grammar": GBNF}, InvalidValue, "grammar"),
        ({"regex": "a", "guided_choice": ["b"]}, InvalidValue, "guided_choice"),
        ({"guided_json": "{"}, InvalidValue, "guided_json"),
        ({"guided_json": "[1]"}, InvalidValue, "guided_json"),
        ({"json_schema": {"a": "x" * 2**20}}, InvalidValue, "json_schema"),
        ({"structured_outputs": {"structural_tag": "x"}}, Unsupported, "structured_outputs.structural_tag"),
    ],
)
def test_forms_that_are_refused(fields: dict[str, Any], error: type[Exception], param: str) -> None:
    with pytest.raises(error) as caught:
        constraint(**fields)
    assert caught.value.fact("param") == param  # type: ignore[attr-defined]
