import pytest

from compat.a1111.scripts.arguments import Arguments
from server.core.errors import InvalidValue

DEFAULTS = (False, 4, 0.5, "Linear", None, "None")


def test_defaults_fill_what_was_not_sent_and_surplus_is_cut() -> None:
    few = Arguments([True], DEFAULTS)
    assert (few.flag(0), few.integer(1, 0, 9), few.number(2, 0, 1), few.text(3)) == (True, 4, 0.5, "Linear")
    assert Arguments([True, 2, 0.1, "Lazy", ["a"], "x", "more"], DEFAULTS).texts(4) == ["a"]
    assert Arguments([None, None], DEFAULTS).integer(1, 0, 9) == 4


@pytest.mark.parametrize(("sent", "read"), [(True, True), (1, True), ("false", False), ("True", True), (0.0, False)])
def test_flags(sent: object, read: bool) -> None:
    assert Arguments([sent], DEFAULTS).flag(0) is read


def test_numbers_may_be_text() -> None:
    assert Arguments([0, "3", "0.25"], DEFAULTS).integer(1, 0, 9) == 3
    assert Arguments([0, 3.9, "0.25"], DEFAULTS).integer(1, 0, 9) == 3
    assert Arguments([0, 3, "0.25"], DEFAULTS).number(2, 0, 1) == 0.25


def test_choices_and_places() -> None:
    arguments = Arguments([0, 1, 0, "lazy", None, "lanczos"], DEFAULTS)
    assert arguments.choice(3, ("Aggressive", "Linear", "Lazy")) == "Lazy"
    assert arguments.index(5, ["None", "Lanczos"]) == 1
    assert Arguments([0, 1, 0, "", None, "1"], DEFAULTS).index(5, ["None", "Lanczos"]) == 1
    assert Arguments([0, 1, 0, "", None, 0], DEFAULTS).index(5, ["None", "Lanczos"]) == 0


@pytest.mark.parametrize(
    "read",
    [
        lambda found: found.integer(0, 0, 9),
        lambda found: found.flag(0),
        lambda found: found.text(0),
        lambda found: found.texts(0),
        lambda found: found.number(1, 0, 1),
        lambda found: found.integer(1, 0, 9),
        lambda found: found.choice(2, ("a", "b")),
        lambda found: found.index(2, ["a", "b"]),
        lambda found: found.index(3, ["a", "b"]),
        lambda found: found.number(4, 0, 1),
    ],
)
def test_wrong_arguments_are_told_by_their_place(read) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidValue, match="argument") as caught:
        read(Arguments([{}, "much", "c", 7, "nan"], (0, 0, 0, 0, 0)))
    assert caught.value.fact("param") == "script_args"
