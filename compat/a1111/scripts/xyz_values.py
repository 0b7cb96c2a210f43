"""How the values of an axis are written (A1111's X/Y/Z plot).

| kind | text | values |
|---|---|---|
| words | `Euler, "a, b"` | `Euler`, `a, b` |
| whole numbers | `1-5` | 1, 2, 3, 4, 5 |
| | `1-5 (+2)` | 1, 3, 5 |
| | `1-10 [5]` | 1, 3, 5, 7, 10 |
| numbers | `0.5-1.5 (+0.5)` | 0.5, 1.0, 1.5 |
| orders | `a, b` | (a, b), (b, a) |
"""

import csv
import itertools
import re
from collections.abc import Callable, Iterable
from io import StringIO
from typing import Any

from server.core.errors import InvalidValue

MOST_VALUES = 1000
MOST_ORDERED = 6

_NUMBER = r"[+-]?\d+(?:\.\d*)?"
_RANGE = re.compile(rf"\s*({_NUMBER})\s*-\s*({_NUMBER})(?:\s*\(({_NUMBER})\s*\))?\s*")
_COUNT = re.compile(rf"\s*({_NUMBER})\s*-\s*({_NUMBER})\s*\[(\d+)\s*\]\s*")


def words(text: str) -> list[str]:
    """Return what stands between commas; quoted words may hold some.

    Raises:
        InvalidValue: quotes that do not end.
    """
    try:
        rows = list(csv.reader(StringIO(text), skipinitialspace=True))
    except csv.Error:
        raise InvalidValue.of("script_args", "the values of an axis cannot be read") from None
    return [word.strip() for row in rows for word in row if word.strip()]


def integers(found: Iterable[str]) -> list[int]:
    """Return whole numbers, ranges (both ends count) and counts between ends spread out; raise InvalidValue."""
    return _numbers(found, lambda text: int(float(text)), whole=True)


def numbers(found: Iterable[str]) -> list[float]:
    """Return numbers, ranges and counts between ends spread out; raise InvalidValue."""
    return _numbers(found, float, whole=False)


def orders(found: Iterable[str]) -> list[tuple[str, ...]]:
    """Return all orders of the words; raise InvalidValue for too many words."""
    all_words = list(found)
    if len(all_words) > MOST_ORDERED:
        text = f"the orders of {len(all_words)} words are too many; {MOST_ORDERED} words are the most"
        raise InvalidValue.of("script_args", text)
    return list(itertools.permutations(all_words))


def _numbers(found: Iterable[str], read: Callable[[str], Any], *, whole: bool) -> list[Any]:
    values: list[Any] = []
    for word in found:
        values += _one(word, read, whole=whole)
        if len(values) > MOST_VALUES:
            raise InvalidValue.of("script_args", f"an axis has more than {MOST_VALUES} values")
    return values


def _one(word: str, read: Callable[[str], Any], *, whole: bool) -> list[Any]:
    counted = _COUNT.fullmatch(word)
    if counted is not None:
        values = _spread(float(counted[1]), float(counted[2]), int(counted[3]))
        return [int(value) for value in values] if whole else values
    span = _RANGE.fullmatch(word)
    if span is not None:
        values = _stepped(float(span[1]), float(span[2]), float(span[3] or 1))
        return [int(value) for value in values] if whole else values
    try:
        return [read(word)]
    except (ValueError, OverflowError):
        raise InvalidValue.of("script_args", f"{word[:40]!r} is no number that an axis can have") from None


def _stepped(first: float, last: float, step: float) -> list[float]:
    step = abs(step) if last >= first else -abs(step)
    if step == 0 or abs(last - first) / abs(step) > MOST_VALUES:
        raise InvalidValue.of("script_args", "a range of an axis is without end")
    count = int((last - first) / step + 1e-9) + 1
    return [round(first + step * number, 10) for number in range(count)]


def _spread(first: float, last: float, count: int) -> list[float]:
    if not 1 <= count <= MOST_VALUES:
        raise InvalidValue.of("script_args", f"an axis has 1 ... {MOST_VALUES} values")
    if count == 1:
        return [first]
    return [first + (last - first) * number / (count - 1) for number in range(count)]
