"""A script's positional arguments: those sent, then the script's defaults; surplus ones are cut, as A1111 does.

A1111 itself needs all of them. Numbers may come as text and the other way round.
"""

import math
from collections.abc import Sequence
from typing import Any

from server.core.errors import InvalidValue

MOST_TEXT = 256 * 1024


class Arguments:
    """The arguments of one request; every read gives the right type or raises InvalidValue."""

    def __init__(self, sent: Sequence[Any], defaults: Sequence[Any]) -> None:
        self._values = [*sent[: len(defaults)], *defaults[len(sent) :]]
        self._defaults = list(defaults)

    def flag(self, at: int) -> bool:
        """Return a truth value."""
        value = self._value(at)
        if isinstance(value, str):
            return value.strip().lower() in ("true", "1", "on", "yes")
        return bool(value) if isinstance(value, bool | int | float) else self._wrong(at, "true or false")

    def integer(self, at: int, low: int, high: int) -> int:
        """Return a whole number within bounds."""
        return int(self.number(at, low, high))

    def number(self, at: int, low: float, high: float) -> float:
        """Return a number within bounds."""
        value = self._value(at)
        try:
            number = float(value) if isinstance(value, int | float | str) else math.nan
        except (ValueError, OverflowError):
            number = math.nan
        if not low <= number <= high:
            self._wrong(at, f"a number, {low:g} ... {high:g}")
        return number

    def text(self, at: int) -> str:
        """Return a text; null is an empty one."""
        value = self._value(at)
        if value is None:
            return ""
        if not isinstance(value, str | int | float) or isinstance(value, bool):
            self._wrong(at, "a text")
        if len(str(value)) > MOST_TEXT:
            self._wrong(at, f"a text of {MOST_TEXT} characters at most")
        return str(value)

    def choice(self, at: int, words: Sequence[str]) -> str:
        """Return one of some words, whatever its case."""
        found = next((word for word in words if word.lower() == self.text(at).lower()), None)
        return found if found is not None else self._wrong(at, f"one of {', '.join(words)}")

    def index(self, at: int, names: Sequence[str]) -> int:
        """Return the place of an entry that is named, or given by its number."""
        value = self._value(at)
        if isinstance(value, str) and not value.strip().isdecimal():
            folded = [name.lower() for name in names]
            if value.lower() in folded:
                return folded.index(value.lower())
            self._wrong(at, "an entry of its list")
        return self.integer(at, 0, len(names) - 1)

    def choices(self, at: int, words: Sequence[str]) -> list[str]:
        """Return some of some words, whatever their case, in their own order."""
        asked = {text.lower() for text in self.texts(at)}
        unknown = asked - {word.lower() for word in words}
        if unknown:
            self._wrong(at, f"a list of some of {', '.join(words)}")
        return [word for word in words if word.lower() in asked]

    def texts(self, at: int) -> list[str]:
        """Return a list of texts; null is an empty one."""
        value = self._value(at)
        if value is None or value == "":
            return []
        if not isinstance(value, list) or not all(isinstance(one, str | int | float) for one in value):
            self._wrong(at, "a list")
        return [str(one) for one in value]

    def _value(self, at: int) -> Any:
        value = self._values[at]
        return self._defaults[at] if value is None else value

    def _wrong(self, at: int, wanted: str) -> Any:
        raise InvalidValue.of("script_args", f"argument {at} (counted from 0) must be {wanted}")
