import pytest

from compat.a1111.scripts.xyz_order import reordered


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("red", "big", "old"), "a red, big, old house"),
        (("old", "red", "big"), "a old, red, big house"),
        (("big", "red"), "a big, red, old house"),
        (("nothing", "big", "red"), "a big, red, old house"),
        ((), "a red, big, old house"),
    ],
)
def test_words_change_places(words: tuple[str, ...], found: str) -> None:
    assert reordered("a red, big, old house", words) == found


def test_a_word_within_another() -> None:
    assert reordered("house, mouse", ("mouse", "house")) == "mouse, house"
