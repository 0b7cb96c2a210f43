import pytest

from compat.a1111.scripts.xyz_values import integers, numbers, orders, words
from server.core.errors import InvalidValue


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a, b,c", ["a", "b", "c"]),
        ('"a, b", c', ["a, b", "c"]),
        ("", []),
        (" , x ,", ["x"]),
        ("one\ntwo, three", ["one", "two", "three"]),
    ],
)
def test_words(text: str, found: list[str]) -> None:
    assert words(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1, 2", [1, 2]),
        ("1-5", [1, 2, 3, 4, 5]),
        ("1-5 (+2)", [1, 3, 5]),
        ("10-5 (-3)", [10, 7]),
        ("5-3", [5, 4, 3]),
        ("1-10 [5]", [1, 3, 5, 7, 10]),
        ("-1", [-1]),
        ("3-3", [3]),
        ("1-2, 7", [1, 2, 7]),
        ("20 - 30 (+5)", [20, 25, 30]),
    ],
)
def test_whole_numbers(text: str, found: list[int]) -> None:
    assert integers(words(text)) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("0.5", [0.5]),
        ("0.5-1.5 (+0.5)", [0.5, 1.0, 1.5]),
        ("0-1 [5]", [0.0, 0.25, 0.5, 0.75, 1.0]),
        ("1-3", [1.0, 2.0, 3.0]),
        ("0.1-0.4 (+0.1)", [0.1, 0.2, 0.3, 0.4]),
    ],
)
def test_numbers(text: str, found: list[float]) -> None:
    assert numbers(words(text)) == pytest.approx(found)


def test_orders() -> None:
    assert orders(["a", "b"]) == [("a", "b"), ("b", "a")]
    assert len(orders("abcd")) == 24
    with pytest.raises(InvalidValue):
        orders("abcdefgh")


@pytest.mark.parametrize("text", ["x", "1-999999999", "1-2 (0)", "0-1 [0]", "0-1 [99999]", "1--", "1e999"])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(InvalidValue):
        integers(words(text))
