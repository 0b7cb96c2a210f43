"""JSON read the way A1111's server reads it: pydantic 1's coercions, and its words when even they fail.

| sent | field | read as |
|---|---|---|
| `"20"` | int | 20 |
| `12.7` | int | 12 |
| `true` | int | 1 |
| `"7"`, `7` | float | 7.0 |
| `1`, `"on"`, `"f"` | bool | true, true, false |
| `5` | str | `"5"` |
| `[]` | object | `{}` |
| list | str | error |
| null | field without null | error |

Unknown keys are dropped. Which errors a body has is told as FastAPI tells it: a list of `loc`, `msg` and `type`.
"""

import json
import math
import types
import typing
from typing import Any

import msgspec

BODY = "body"
LARGEST = 2**64 - 1
SMALLEST = -(2**63)
NESTING = 64

_TRUE = frozenset({"1", "on", "t", "true", "y", "yes"})
_FALSE = frozenset({"0", "off", "f", "false", "n", "no"})


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that is wrong with a body; `ctx` holds numbers and texts for programs."""

    loc: list[str | int]
    msg: str
    type: str
    ctx: dict[str, Any] | None = None


class Unreadable(Exception):
    """The body cannot be read as what the route takes."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(problems[0].msg if problems else "")
        self.problems = problems


def read(body: bytes, wire: type[msgspec.Struct] | None) -> dict[str, Any]:
    """Return the object in a body with the known fields in their types; all of it when `wire` is None.

    Raises:
        Unreadable: no JSON, no object, or values that no coercion helps.
    """
    data = _decode(body)
    if data == []:
        data = {}
    if not isinstance(data, dict):
        raise Unreadable([Problem(loc=[BODY], msg="value is not a valid dict", type="type_error.dict")])
    return data if wire is None else coerce(data, wire)


def coerce(data: dict[str, Any], wire: type[msgspec.Struct]) -> dict[str, Any]:
    """Return the fields of `wire` that `data` has, each in its type; raise Unreadable with every problem."""
    hints = typing.get_type_hints(wire)
    known: dict[str, Any] = {}
    problems: list[Problem] = []
    for field in msgspec.structs.fields(wire):
        if field.name in data:
            try:
                known[field.name] = _value(data[field.name], hints[field.name])
            except _Wrong as wrong:
                problems.append(
                    Problem(loc=[BODY, field.name, *wrong.at], msg=wrong.msg, type=wrong.type, ctx=wrong.ctx)
                )
        elif field.required:
            problems.append(Problem(loc=[BODY, field.name], msg="field required", type="value_error.missing"))
    if problems:
        raise Unreadable(problems)
    return known


def _decode(body: bytes) -> Any:
    if not body.strip():
        raise Unreadable([Problem(loc=[BODY], msg="field required", type="value_error.missing")])
    try:
        text = body.decode("utf-8")
        data = json.loads(text, parse_constant=_no_constant)
        if "\\u" in text:
            json.dumps(data, ensure_ascii=False).encode("utf-8")  # half of a surrogate pair is no text anywhere else
        return data
    except json.JSONDecodeError as error:
        ctx = {"msg": error.msg, "doc": "", "pos": error.pos, "lineno": error.lineno, "colno": error.colno}
        raise Unreadable(
            [Problem(loc=[BODY, error.pos], msg=str(error), type="value_error.jsondecode", ctx=ctx)]
        ) from None
    except UnicodeError:
        raise Unreadable([Problem(loc=[BODY], msg="the body is not UTF-8", type="value_error.jsondecode")]) from None
    except (RecursionError, ValueError):  # brackets without end; an integer of thousands of digits
        raise Unreadable([Problem(loc=[BODY], msg="the body is out of bounds", type="value_error")]) from None


def _no_constant(name: str) -> float:
    raise ValueError(name)


class _Wrong(Exception):
    def __init__(
        self, msg: str, kind: str, *, at: tuple[str | int, ...] = (), ctx: dict[str, Any] | None = None
    ) -> None:
        super().__init__(msg)
        self.msg = msg
        self.type = kind
        self.at = at
        self.ctx = ctx


def _value(value: Any, hint: Any) -> Any:
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None:
        if type(None) in options or hint is Any:
            return None
        raise _Wrong("none is not an allowed value", "type_error.none.not_allowed")
    plain = next(option for option in options if option is not type(None))
    origin = typing.get_origin(plain) or plain
    if origin is list:
        return _list(value, typing.get_args(plain)[0])
    reader = _READERS.get(origin)
    return value if reader is None else reader(value)


def _list(value: Any, item: Any) -> list[Any]:
    if not isinstance(value, list):
        raise _Wrong("value is not a valid list", "type_error.list")
    found = []
    for index, one in enumerate(value):
        try:
            found.append(_value(one, item))
        except _Wrong as wrong:
            raise _Wrong(wrong.msg, wrong.type, at=(index, *wrong.at), ctx=wrong.ctx) from None
    return found


def _integer(value: Any) -> int:
    try:
        number = int(value) if isinstance(value, int | float | str) else None
    except (ValueError, OverflowError):
        number = None
    if number is None:
        raise _Wrong("value is not a valid integer", "type_error.integer")
    if number > LARGEST:
        text = f"ensure this value is less than or equal to {LARGEST}"
        raise _Wrong(text, "value_error.number.not_le", ctx={"limit_value": LARGEST})
    if number < SMALLEST:
        text = f"ensure this value is greater than or equal to {SMALLEST}"
        raise _Wrong(text, "value_error.number.not_ge", ctx={"limit_value": SMALLEST})
    return number


def _number(value: Any) -> float:
    try:
        number = float(value) if isinstance(value, int | float | str) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise _Wrong("value is not a valid float", "type_error.float")
    return number


def _flag(value: Any) -> bool:
    word = value.lower() if isinstance(value, str) else value
    if isinstance(word, str):
        known = word in _TRUE or word in _FALSE
    else:
        known = isinstance(word, int | float) and word in (0, 1)
    if not known:
        raise _Wrong("value could not be parsed to a boolean", "type_error.bool")
    return word in _TRUE if isinstance(word, str) else word == 1


def _text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise _Wrong("str type expected", "type_error.str")
    return str(value)


def _object(value: Any) -> dict[str, Any]:
    if value == []:
        return {}
    if not isinstance(value, dict):
        raise _Wrong("value is not a valid dict", "type_error.dict")
    return value


_READERS: dict[Any, Any] = {int: _integer, float: _number, bool: _flag, str: _text, dict: _object}
