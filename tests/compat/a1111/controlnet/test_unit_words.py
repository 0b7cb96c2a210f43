from typing import Any

import pytest

from compat.a1111.controlnet.unit_words import CONTROL_MODES, RESIZE_MODES, control_mode, hr_option, resize_mode
from server.core.errors import InvalidValue


@pytest.mark.parametrize(
    "sent, wanted",
    [
        (None, "crop"),
        ("", "crop"),
        ("Just Resize", "stretch"),
        ("resize and fill", "fill"),
        ("Inner Fit (Scale to Fit)", "crop"),
        ("Scale to Fit (Inner Fit)", "crop"),
        ("Outer Fit (Shrink to Fit)", "fill"),
        ("Envelope (Outer Fit)", "fill"),
        (0, "stretch"),
        (1, "crop"),
        (2.0, "fill"),
        ("2", "fill"),
        (3, "stretch"),
        (-1, "stretch"),
    ],
)
def test_resize_modes(sent: Any, wanted: str) -> None:
    assert RESIZE_MODES[resize_mode(sent)] == wanted


@pytest.mark.parametrize(
    "sent, guess, wanted",
    [
        (None, None, "balanced"),
        ("Balanced", None, "balanced"),
        ("my prompt is more important", None, "prompt"),
        ("ControlNet is more important", None, "control"),
        (1, None, "prompt"),
        ("2", None, "control"),
        (None, True, "control"),
        (None, False, "balanced"),
        (None, 1, "prompt"),
        ("Balanced", True, "balanced"),
    ],
)
def test_control_modes(sent: Any, guess: Any, wanted: str) -> None:
    assert CONTROL_MODES[control_mode(sent, guess)] == wanted


def test_passes() -> None:
    assert [hr_option(word) for word in (None, "Both", "Low res only", "high res only")] == [
        *("both", "both", "first", "second")
    ]


@pytest.mark.parametrize("sent", ["Nearest", [], {}, True, "nan"])
def test_what_is_no_word(sent: Any) -> None:
    with pytest.raises(InvalidValue):
        resize_mode(sent)
    if sent is not True:
        with pytest.raises(InvalidValue):
            control_mode(sent, None)


def test_numbers_without_a_mode() -> None:
    for sent in (3, -1):
        with pytest.raises(InvalidValue):
            control_mode(sent, None)
    with pytest.raises(InvalidValue):
        hr_option("Sometimes")
