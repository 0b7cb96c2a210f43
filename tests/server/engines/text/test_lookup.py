"""The guess at what follows, by the text so far."""

import random

import numpy as np
import pytest

from server.engines.text.lookup import SHORTEST_MATCH, guess


def ids(text: str) -> np.ndarray:
    return np.array([ord(letter) for letter in text], np.int32)


@pytest.mark.parametrize(
    ("text", "count", "expected"),
    [
        ("abcdefg-abc", 4, "defg"),
        ("abcdefg-abc", 1, "d"),
        ("xyzxyz", 4, "xyzx"),
        ("xyzxyz", 16, "xyzxyzxyzxyzxyzx"),
        ("aaaa", 3, "aaa"),
        ("aaa", 3, None),
        ("abcd", 3, None),
        ("", 3, None),
        ("a", 3, None),
        ("ab-ab", 3, None),
        ("-ab-ab", 2, "-a"),
        # the place that agrees furthest back counts, then the latest
        ("1abcX 2abcY 1abc", 1, "X"),
        ("abcX abcY abc", 1, "Y"),
        ("abcX", 0, None),
    ],
)
def test_guesses(text: str, count: int, expected: str | None) -> None:
    found = guess(ids(text), count)
    assert (None if found is None else "".join(map(chr, found))) == expected


def test_a_guess_is_what_followed_the_longest_agreement() -> None:
    """Against a search letter by letter."""
    source = random.Random(3)
    found = 0
    for _ in range(500):
        text = "".join(source.choice("ab") for _ in range(source.randint(0, 24)))
        agreement = {
            place: next(
                (back for back in range(place + 1) if text[place - back] != text[len(text) - 1 - back]), place + 1
            )
            for place in range(len(text) - 1)
        }
        good = {place: min(length, 16) for place, length in agreement.items() if length >= SHORTEST_MATCH}
        guessed = guess(ids(text), 5)
        assert (guessed is None) == (not good)
        if guessed is not None:
            found += 1
            best = max(good, key=lambda place: (good[place], place))
            going_on = text
            for step in range(5):
                going_on += going_on[best + 1 + step]
            assert "".join(map(chr, guessed)) == going_on[-5:]
    assert found > 100
