"""The words and numbers by which units choose, in all spellings that clients have ever sent."""

from collections.abc import Mapping
from typing import Any, TypeVar

from server.core.errors import InvalidValue
from server.core.image import ControlFit, ControlMode, ControlPasses

Chosen = TypeVar("Chosen")

RESIZE_MODES: dict[str, ControlFit] = {"Just Resize": "stretch", "Crop and Resize": "crop", "Resize and Fill": "fill"}

OLD_RESIZE_MODES = {
    "Inner Fit (Scale to Fit)": "Crop and Resize",
    "Scale to Fit (Inner Fit)": "Crop and Resize",
    "Outer Fit (Shrink to Fit)": "Resize and Fill",
    "Envelope (Outer Fit)": "Resize and Fill",
}

CONTROL_MODES: dict[str, ControlMode] = {
    "Balanced": "balanced",
    "My prompt is more important": "prompt",
    "ControlNet is more important": "control",
}

HR_OPTIONS: dict[str, ControlPasses] = {"Both": "both", "Low res only": "first", "High res only": "second"}


def resize_mode(value: Any) -> str:
    """Return the name of a resize mode; numbers above 2 are `Just Resize`.

    Raises:
        InvalidValue: it is none.
    """
    if isinstance(value, str):
        value = OLD_RESIZE_MODES.get(value, value)
    number = _number(value)
    if number is not None:
        names = list(RESIZE_MODES)
        return names[number] if 0 <= number < len(names) else names[0]
    return _word("resize_mode", value, RESIZE_MODES, "Crop and Resize")


def control_mode(value: Any, guess: Any) -> str:
    """Return the name of a control mode; the old guess mode is the last of them.

    Raises:
        InvalidValue: it is none.
    """
    if value is None and guess is True:
        return "ControlNet is more important"
    number = _number(value if value is not None or guess is None else guess)
    if number is not None:
        names = list(CONTROL_MODES)
        if not 0 <= number < len(names):
            raise InvalidValue.of("control_mode", f"control_mode({number}) is not one of 0 ... {len(names) - 1}")
        return names[number]
    return _word("control_mode", value, CONTROL_MODES, "Balanced")


def hr_option(value: str | None) -> ControlPasses:
    """Return in which passes a unit acts; raise InvalidValue for an unknown word."""
    return HR_OPTIONS[_word("hr_option", value, HR_OPTIONS, "Both")]


def _number(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return int(number) if number == number and abs(number) < 1000 else None


def _word(param: str, value: Any, known: Mapping[str, Chosen], usual: str) -> str:
    if value is None or value == "":
        return usual
    found = [word for word in known if isinstance(value, str) and word.lower() == value.strip().lower()]
    if not found:
        raise InvalidValue.of(param, f"{param} is none of {', '.join(known)}")
    return found[0]
