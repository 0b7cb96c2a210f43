"""A1111's options: kept in a JSON file, shown with A1111's types, read with the types we need.

Whatever clients post is stored and given back, as A1111 does, unknown keys too. A value of a wrong type or out of range
counts as the default where it is used. `sd_model_checkpoint` and `sd_checkpoint_hash` are shown by `listings`, which
knows the models; here the first is the stored wish of the client.
"""

import json
import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compat.a1111.option_defaults import EXPLANATIONS, FIXED, OPTION_DEFAULTS
from server.core.errors import InvalidValue

CHECKPOINT = "sd_model_checkpoint"
CHECKPOINT_HASH = "sd_checkpoint_hash"

MOST_KEYS = 2000
MOST_BYTES = 2 * 1024 * 1024
NOT_STORED = EXPLANATIONS | FIXED | {CHECKPOINT_HASH}


class OptionValues:
    """Options as one request sees them; every read gives the right type, the default where a value is unusable."""

    def __init__(self, values: Mapping[str, Any] | None = None) -> None:
        self._values = dict(values or {})

    def with_overrides(self, overrides: Mapping[str, Any]) -> "OptionValues":
        """Return the options with other values for some keys."""
        return OptionValues(self._values | dict(overrides))

    def get(self, name: str) -> Any:
        """Return the value as it was posted, the default when it was not."""
        return self._values.get(name, OPTION_DEFAULTS.get(name))

    def integer(self, name: str, low: int, high: int) -> int:
        """Return a whole number within bounds; 2.0 and "2" are 2."""
        number = self._number(name)
        if number is None or not low <= int(number) <= high:
            return int(OPTION_DEFAULTS[name])
        return int(number)

    def number(self, name: str) -> float:
        """Return a finite number."""
        number = self._number(name)
        return float(OPTION_DEFAULTS[name]) if number is None else number

    def flag(self, name: str) -> bool:
        """Return a truth value."""
        value = self.get(name)
        return bool(value) if isinstance(value, bool | int | float) else bool(OPTION_DEFAULTS[name])

    def text(self, name: str) -> str:
        """Return a text."""
        value = self.get(name)
        return value if isinstance(value, str) else str(OPTION_DEFAULTS[name] or "")

    def changed(self, name: str) -> bool:
        """Tell whether an option differs from its default."""
        return bool(self.get(name) != OPTION_DEFAULTS.get(name))

    def _number(self, name: str) -> float | None:
        value = self.get(name)
        try:
            number = float(value) if isinstance(value, int | float | str) else math.nan
        except (ValueError, OverflowError):
            return None
        return number if math.isfinite(number) else None


class OptionStore:
    """The door's options: the one place where they change. Owned by the door, used in the event loop's thread."""

    def __init__(self, file: str | None) -> None:
        self._file = None if file is None else Path(file)
        self._values = _load(self._file)

    def values(self) -> OptionValues:
        """Return the options as they are now."""
        return OptionValues(self._values)

    def shown(self) -> dict[str, Any]:
        """Return all options as `GET options` has them: whole numbers with a default other than 0 as floats."""
        shown = {name: _typed(self._values.get(name, default), default) for name, default in OPTION_DEFAULTS.items()}
        return shown | {name: value for name, value in self._values.items() if name not in shown}

    def update(self, changes: Mapping[str, Any]) -> None:
        """Take over what a client posted; `save` keeps it. Raise InvalidValue for more than settings can be."""
        values = self._values | {name: value for name, value in changes.items() if name not in NOT_STORED}
        if len(values) > MOST_KEYS or len(json.dumps(values)) > MOST_BYTES:
            raise InvalidValue.of("options", "these are too many options")
        self._values = values

    def save(self) -> None:
        """Write the options as they are now. Blocks; may be called in a thread, one call at a time.

        Raises:
            OSError: the file cannot be written; the options hold until the end of the process.
        """
        if self._file is not None:
            _save(self._file, self._values)


def _typed(value: Any, default: Any) -> Any:
    whole = isinstance(default, int) and not isinstance(default, bool) and default != 0
    if whole and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value


def _load(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        values = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def _save(file: Path, values: dict[str, Any]) -> None:
    """Replace the file in one step, so that a crash leaves the old or the new one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=file.name, suffix=".new")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            json.dump(values, out, indent=4, ensure_ascii=False)
            out.flush()
            os.fsync(out.fileno())
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
