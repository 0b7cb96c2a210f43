import json

import pytest

from server.core.errors import InvalidValue
from server.engines.text import constraint_limits as limits


def nested(depth: int) -> str:
    return '{"items":' * depth + "{}" + "}" * depth


@pytest.mark.parametrize(
    "schema",
    [
        nested(limits.MOST_DEPTH),
        '{"a":' * 100_000 + "1" + "}" * 100_000,
        json.dumps({"enum": list(range(limits.MOST_CHOICES + 1))}),
        json.dumps({"properties": {str(number): {} for number in range(limits.MOST_NODES)}}),
        json.dumps({"minItems": limits.MOST_REPEATS + 1}),
        json.dumps({"properties": {"x": {"minLength": 10**9}}}),
        '{"minLength": 1e400}',
        '{"$ref": "http://example.org/schema.json"}',
        json.dumps({"pattern": "a" * (limits.LONGEST_PATTERN + 1)}),
        json.dumps({"pattern": "(" * 33 + ")" * 33}),
        json.dumps({"pattern": "a{100000}"}),
        json.dumps({"pattern": "((a{20}){20}){20}"}),
        json.dumps({"pattern": "(b(a{3,}){30}){30}x"}),
        json.dumps({"pattern": "(a{50}){50,60}"}),
        json.dumps({"patternProperties": {"a{3,5000}": {}}}),
        '"' + "x" * limits.MOST_BYTES + '"',
        "not json",
        "[1]",
        '{"x": NaN}',
        '{"x": "\ud800"}',
        '{"x": "\0"}',
    ],
)
def test_schemas_over_a_limit_are_refused_and_the_parameter_is_named(schema: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        limits.parsed_schema(schema, "response_format")
    assert refused.value.fact("param") == "response_format"


@pytest.mark.parametrize(
    "schema",
    [
        nested(limits.MOST_DEPTH - 2),
        json.dumps({"enum": list(range(limits.MOST_CHOICES))}),
        json.dumps({"maxLength": 10**9, "minItems": limits.MOST_REPEATS}),
        '{"$ref": "#/$defs/x", "$defs": {"x": {}}}',
        json.dumps({"pattern": r"^[({]{1,3}\{999999\}$"}),
        json.dumps({"pattern": "((a{1,100}){1,100}){1,100}"}),
        json.dumps({"pattern": "(a{40}){40}(b{40}){40}c{2000}"}),
        json.dumps({"pattern": "(a{40})b{2000}"}),
        json.dumps({"description": "[[[" * 1000}),
        "true",
    ],
)
def test_schemas_within_the_limits_are_returned_as_they_are(schema: str) -> None:
    assert limits.parsed_schema(schema, "x") == json.loads(schema)


@pytest.mark.parametrize(
    ("grammar", "syntax"),
    [
        ("root ::= " + "(" * 60_000, "gbnf"),
        ("root ::= (" + '")" (' * 200, "gbnf"),
        ('root ::= "a"{1,100000}', "gbnf"),
        ("root ::= %llguidance {}", "gbnf"),
        ("x" * (limits.MOST_BYTES + 1), "gbnf"),
        ("start: " + "(" * 200, "lark"),
        ("start: (" + '")" (' * 200, "lark"),
        ('start: "a"{5000}', "lark"),
        ('root ::= (("a"{20}){20}){20}', "gbnf"),
        ("\n".join(f'r{number} ::= "a"' for number in range(limits.MOST_RULES + 1)), "gbnf"),
        ("\n".join(f'r{number}: "a"' for number in range(limits.MOST_RULES + 1)), "lark"),
        ("\n".join(f'?R{number}[lazy] : "a"' for number in range(limits.MOST_RULES + 1)), "lark"),
        ("%llguidance {}\nstart: /a/", "lark"),
    ],
)
def test_grammars_over_a_limit_are_refused(grammar: str, syntax: str) -> None:
    with pytest.raises(InvalidValue):
        limits.check_grammar(grammar, "grammar", syntax=syntax)


@pytest.mark.parametrize(
    ("grammar", "syntax"),
    [
        ('root ::= "' + "(" * 200 + '"', "gbnf"),
        ("root ::= [(({{] # " + "(" * 200, "gbnf"),
        ("start: /" + r"\(" * 200 + "/", "lark"),
        ("root ::= " + "(" * 100 + '"a"' + ")" * 100, "gbnf"),
    ],
)
def test_brackets_that_are_text_do_not_count(grammar: str, syntax: str) -> None:
    limits.check_grammar(grammar, "grammar", syntax=syntax)


def test_of_a_compilers_message_the_telling_line_is_kept() -> None:
    assert limits.brief("regex parse error:\n  (((\n  ^\nerror: unclosed group\n") == "unclosed group"
    assert limits.brief("Unimplemented keys\n<state>\nlots") == "Unimplemented keys"
    assert limits.brief("")
