"""Jinja's immutable sandbox for chat templates: nothing that makes a huge value out of a small one gets far.

What does is bounded where it is written: operators, joined texts, calls, lists that share lists. What hides in a filter
meets the limit of memory of whoever renders (`memory_limit`), and what keeps native code busy for ever his `Deadline`.
"""

import json
from collections.abc import Iterable, Sequence, Sized
from typing import Any

from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.filters import do_round
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

LENGTH_LIMIT = 4 * 1024 * 1024
_LONGEST_NUMBER = 4096
_MOST_PLACES = 64
_MOST_VALUES = 500_000
_LETTERS_A_VALUE = 8
_CHANGES_LISTS = frozenset(["append", "extend", "insert", "pop"])


class Given(list[dict[str, Any]]):
    """A list that a template cannot change; its slices are copies that it can."""


class _GenerationTag(Extension):
    """`{% generation %}`: trainers mark the assistant's words with it; for a prompt only what is inside counts."""

    tags = {"generation"}  # noqa: RUF012 - jinja's own class attribute

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Return the statements between the tags."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Generator(CodeGenerator):
    """Jinja's compiler, but `~` is an operation of the environment like the other operators."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802 - jinja's own name
        """Write the call that joins texts."""
        self.write("environment.joined((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox with all guarded by which a short template makes a huge value; see above."""

    intercepted_binops = frozenset(["+", "*", "**", "%"])
    code_generator_class = _Generator

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _GenerationTag], finalize=_writable
        )
        self.filters |= {"tojson": tojson, "string": _text_of, "round": _rounded}

    @staticmethod
    def concat(texts: Iterable[str]) -> str:
        """Return the texts as one: what a block or a macro writes."""
        kept: list[str] = []
        length = 0
        for text in texts:
            kept.append(text)
            length += len(text)
            if length > LENGTH_LIMIT:
                raise SecurityError("it makes a text that is too long")
        return "".join(kept)

    def joined(self, values: Sequence[object]) -> str:
        """Return what `~` makes of values."""
        return self.concat(str(_writable(value)) for value in values)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Refuse what is over the length limit, and large numbers."""
        match operator:
            case "**" if not (abs(left) <= 2**32 and abs(right) <= _MOST_PLACES):
                raise SecurityError("it computes a power that is too large")
            case "*":
                _check_product(left, right)
            case "+" if _length(left) + _length(right) > LENGTH_LIMIT:
                raise SecurityError("it makes a text that is too long")
        return _short(super().call_binop(context, operator, left, right))

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 - jinja's own
        """Refuse calls that return a text over the length limit."""
        return _short(super().call(__context, __obj, *args, **kwargs))

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Allow what changes lists that are not the conversation itself."""
        if isinstance(obj, list) and not isinstance(obj, Given) and attr in _CHANGES_LISTS:
            return True
        return super().is_safe_attribute(obj, attr, value)


def tojson(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Write JSON as transformers does in templates: no escapes for HTML, no escapes outside ASCII."""
    return json.dumps(
        _writable(value),
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
        default=_listed,
    )


def _listed(value: object) -> list[object]:
    """Return what a filter such as `map` made as a list."""
    if isinstance(value, Iterable):
        return list(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def _length(value: object) -> int:
    """Return how long a value is, in letters; a value in a list counts for as many as its place takes."""
    if not isinstance(value, Sized):
        return 0
    return len(value) * (1 if isinstance(value, str | bytes) else _LETTERS_A_VALUE)


def _short(value: Any) -> Any:
    """Return a value that is not over the length limit."""
    if isinstance(value, str) and len(value) > LENGTH_LIMIT:
        raise SecurityError("it makes a text that is too long")
    return value


def _writable(value: Any) -> Any:
    """Return a value that is not too large to be written: lists that share lists say more than they hold."""
    left: list[Any] = [value]
    count = 0
    while left:
        found = left.pop()
        if isinstance(found, list | tuple):
            left.extend(found)
        elif isinstance(found, dict):
            left.extend(found.values())
        else:
            continue
        count += len(found)
        if count > _MOST_VALUES:
            raise SecurityError("it writes too many values")
    return value


def _text_of(value: object) -> str:
    return str(_writable(value))


def _check_product(left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        if left.bit_length() + right.bit_length() > _LONGEST_NUMBER:
            raise SecurityError("it computes a number that is too large")
        return
    for sequence, count in ((left, right), (right, left)):
        if isinstance(count, int) and _length(sequence) * count > LENGTH_LIMIT:
            raise SecurityError("it repeats a text too often")


def _rounded(value: float, precision: int = 0, method: str = "common") -> float:
    """Round as jinja does, which computes 10 ** precision, but to a sane number of places."""
    if abs(precision) > _MOST_PLACES:
        raise SecurityError("it rounds to too many places")
    return do_round(value, precision, method)  # type: ignore[arg-type]  # it checks the method itself
