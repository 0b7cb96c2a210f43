import json

import pytest

from server.engines.text.tool_formats.values import as_json, as_text, is_free_text, json_text, plain_choices


@pytest.mark.parametrize("value", ["ä\U0001f600", {"a": [1, None]}, "\ud800", ["x\udfff"], {"\ud83d": "\ude00"}])
def test_json_text_can_always_be_sent_and_read_back(value: object) -> None:
    text = json_text(value)
    assert json.loads(text.encode()) == value
    assert ("\\u" in text) == (
        "\\ud" in json.dumps(value) and "\U0001f600" not in text and "\U0001f600" not in str(value)
    )


@pytest.mark.parametrize(
    ("text", "schema", "expected"),
    [
        ("3", {"type": "integer"}, 3),
        ("True", {"type": "boolean"}, True),
        ("None", {}, None),
        ("{'a': [1, 'x']}", {"type": "object"}, {"a": [1, "x"]}),
        ('{"a": 1}', {}, {"a": 1}),
        ("3", {"type": "string", "minLength": 1}, "3"),
        ("3", {"enum": ["3", "4"]}, "3"),
        ("yes it is", {"type": "integer"}, "yes it is"),
        (r"'\d'", {}, r"\d"),
        ("[" * 100_000, {}, "[" * 100_000),
        ("1e999", {"type": "number"}, float("inf")),
    ],
)
def test_texts_between_tags_become_values(text: str, schema: dict[str, object], expected: object) -> None:
    assert json.loads(as_json(text, schema)) == expected


@pytest.mark.parametrize(("value", "text"), [("a <b>", "a <b>"), (True, "true"), (None, "null"), ([1], "[1]")])
def test_values_between_tags(value: object, text: str) -> None:
    assert as_text(value) == text


@pytest.mark.parametrize(
    ("schema", "choices", "free"),
    [
        ({"type": "string"}, [], True),
        ({"enum": ["a", "b"]}, ["a", "b"], False),
        ({"const": "a", "type": "string"}, ["a"], False),
        ({"enum": ["a", 1]}, [], False),
        ({"enum": ["a<", "b"]}, [], False),
        ({"enum": [" a"]}, [], False),
        ({"type": "string", "pattern": "x"}, [], False),
        ({"type": ["string", "null"]}, [], False),
        ({}, [], False),
    ],
)
def test_what_a_schema_says_of_texts(schema: dict[str, object], choices: list[str], free: bool) -> None:
    assert plain_choices(schema) == choices
    assert is_free_text(schema) is free
