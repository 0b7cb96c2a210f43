"""What a caller's schema, pattern or grammar may look like, checked in linear time before anything compiles it.

Compilers of such languages have been ended, or kept busy for minutes, by nesting, repetition and sheer size. The limits
are those of the project's threat list (schemas and patterns; raw grammars). Nothing here judges whether a text is
*right*: that is the compiler's business.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from server.core.errors import InvalidValue

MOST_BYTES = 256 * 1024
MOST_NODES = 10_000
MOST_DEPTH = 64
MOST_CHOICES = 5_000
MOST_REPEATS = 2_000
"""Of one thing, and of what is in repetitions within repetitions: a compiler writes each of them out."""
LONGEST_PATTERN = 512
MOST_PATTERN_DEPTH = 32
MOST_GRAMMAR_DEPTH = 100
MOST_RULES = 1_000

_LEAST_KEYS = ("minItems", "minLength", "minProperties", "minContains")
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_LONGEST_REASON = 300

# A regular expression: an escape, a class (whose brackets and braces are no groups), a group's border, a repetition.
_PATTERN_TOKENS = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|[()]|\{[\d,\s]*\}", re.DOTALL)
# A grammar: a string, a class, a comment, a group's border, a repetition.
_RULES = {
    "gbnf": re.compile("::="),
    "lark": re.compile(r"^[ \t]*[?!]?\w[\w.\-]*(?:\[[^\]\n]*\])?[ \t]*:", re.MULTILINE),
}
_GBNF_TOKENS = re.compile(
    r'"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]|#[^\n]*|\{[\d,\s]*\}|[(){}\[\]]|%llguidance', re.DOTALL
)
_LARK_TOKENS = re.compile(
    r'"(?:\\.|[^"\\])*"|//[^\n]*|#[^\n]*|/(?:\\.|[^/\\\n])+/|\{[\d,\s]*\}|[(){}\[\]]|%llguidance', re.DOTALL
)


def parsed_schema(text: str, param: str) -> Any:
    """Return a JSON schema as a value, or raise InvalidValue naming `param` when it is no JSON or too large."""
    _check_size(text, param, "schema")
    check_json_depth(text, param)
    try:
        schema = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidValue.of(param, f"Invalid schema for {param}: it is not JSON: {brief(str(error))}") from None
    if not isinstance(schema, dict | bool):
        raise InvalidValue.of(param, f"Invalid schema for {param}: a schema is an object, not {type(schema).__name__}")
    for count, (key, value) in enumerate(_walk(schema), start=1):
        if count > MOST_NODES:
            raise InvalidValue.of(param, f"Invalid schema for {param}: it has more than {MOST_NODES} nodes")
        _check_node(key, value, param)
    return schema


def check_pattern(pattern: str, param: str) -> None:
    """Raise InvalidValue when a regular expression is longer, deeper or repeats more than it may."""
    if len(pattern) > LONGEST_PATTERN:
        raise InvalidValue.of(param, f"a pattern may have {LONGEST_PATTERN} characters, not {len(pattern)}")
    _check_borders(pattern, _PATTERN_TOKENS, MOST_PATTERN_DEPTH, param, "the pattern")


def check_grammar(grammar: str, param: str, *, syntax: str) -> None:
    """Raise InvalidValue when a grammar (`gbnf` or `lark`) is larger, deeper or repeats more than it may."""
    _check_size(grammar, param, "grammar")
    if len(_RULES[syntax].findall(grammar)) > MOST_RULES:
        raise InvalidValue.of(param, f"the grammar may have {MOST_RULES} rules")
    _check_borders(
        grammar, _GBNF_TOKENS if syntax == "gbnf" else _LARK_TOKENS, MOST_GRAMMAR_DEPTH, param, "the grammar"
    )


def brief(reason: str) -> str:
    """Return the telling line of a compiler's message, without its excerpts and parser states."""
    lines = [line.strip() for line in reason.splitlines() if line.strip()]
    told = next((line.removeprefix("error:").strip() for line in lines if line.startswith("error:")), "")
    return (told or (lines[0] if lines else "it gave no reason"))[:_LONGEST_REASON]


def _check_size(text: str, param: str, what: str) -> None:
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > MOST_BYTES:
        raise InvalidValue.of(param, f"the {what} may have {MOST_BYTES} bytes, not {size}")
    if "\0" in text or any("\ud800" <= char <= "\udfff" for char in text):
        raise InvalidValue.of(param, f"the {what} holds characters that are no text")


def check_json_depth(text: str, param: str) -> None:
    """Raise InvalidValue naming `param` for JSON that is nested deeper than schemas may be.

    Brackets outside strings are counted: Python's own parser recurses, and so does what goes through its result.
    """
    depth = 0
    for found in re.finditer(r'"(?:\\.|[^"\\])*"|[\[{]|[\]}]', text, re.DOTALL):
        if found[0] in "[{":
            depth += 1
            if depth > MOST_DEPTH:
                raise InvalidValue.of(param, f"Invalid schema for {param}: it is nested deeper than {MOST_DEPTH}")
        elif found[0] in "]}":
            depth -= 1


def _walk(schema: Any) -> Iterator[tuple[str, Any]]:
    """Yield every value in a schema with the key it stands under; items of a list have their list's key."""
    pending = [("", schema)]
    while pending:
        key, value = pending.pop()
        yield key, value
        if isinstance(value, dict):
            pending.extend(value.items())
        elif isinstance(value, list):
            pending.extend(("", item) for item in value)


def _check_node(key: str, value: Any, param: str) -> None:
    if key == "enum" and isinstance(value, list) and len(value) > MOST_CHOICES:
        raise InvalidValue.of(param, f"Invalid schema for {param}: an enum may have {MOST_CHOICES} values")
    if key in _LEAST_KEYS and isinstance(value, int | float) and value > MOST_REPEATS:
        raise InvalidValue.of(param, f"Invalid schema for {param}: {key} may be {MOST_REPEATS} at most, not {value}")
    if key in _REFERENCES and isinstance(value, str) and not value.startswith("#"):
        raise InvalidValue.of(param, f"Invalid schema for {param}: only references inside the schema (#...) are read")
    if key == "pattern" and isinstance(value, str):
        check_pattern(value, param)
    if key == "patternProperties" and isinstance(value, dict):
        for pattern in value:
            check_pattern(pattern, param)


def _check_borders(text: str, tokens: re.Pattern[str], most: int, param: str, what: str) -> None:
    """Check how deep groups are, and how often what is in them is repeated by all repetitions around it.

    Only what must be there counts: it is written out, what may be there is not.
    """
    repeated = [1]  # by level: the most that anything in it is repeated
    latest = border = 0  # how often what ended last is repeated, and where it ended
    for found in tokens.finditer(text):
        token = found[0]
        if token == "%llguidance":
            raise InvalidValue.of(param, f"{what} must not have %llguidance directives")
        if token in ("(", "[", "{"):
            repeated.append(1)
            if len(repeated) > most + 1:
                raise InvalidValue.of(param, f"{what} is nested deeper than {most}")
        elif token in (")", "]", "}"):
            latest, border = repeated.pop() if len(repeated) > 1 else 1, found.end()
            repeated[-1] = max(repeated[-1], latest)
        elif token[0] == "{":
            least, largest = _counts(token)
            latest = max(least, 1) * (latest if found.start() == border else 1)
            border = found.end()
            if max(latest, largest) > MOST_REPEATS:
                raise InvalidValue.of(param, f"{what} repeats something more than {MOST_REPEATS} times")
            repeated[-1] = max(repeated[-1], latest)


def _counts(repetition: str) -> tuple[int, int]:
    """Return the least and the largest number in `{2,5}`; of many figures only some are read."""
    numbers = [int(number[:9]) for number in re.findall(r"\d+", repetition)]
    first = re.match(r"\{\s*(\d+)", repetition)
    return int(first[1][:9]) if first else 0, max(numbers, default=0)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
