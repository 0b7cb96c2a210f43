"""The guess at what follows, by the text so far."""

import random

import pytest

from server.engines.text.lookup import LONGEST_MATCH, MOST_PLACES, SHORTEST_MATCH, Lookup


def guess(text: str, count: int) -> str | None:
    lookup = Lookup()
    lookup.extend(map(ord, text))
    found = lookup.guess(count)
    return None if found is None else "".join(map(chr, found))


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
    assert guess(text, count) == expected


def test_the_text_may_come_piece_by_piece() -> None:
    source = random.Random(5)
    for _ in range(50):
        text = "".join(source.choice("abc") for _ in range(60))
        lookup = Lookup()
        for place, letter in enumerate(text):
            lookup.extend([ord(letter)])
            found = lookup.guess(6)
            assert (None if found is None else "".join(map(chr, found))) == guess(text[: place + 1], 6)
        assert len(lookup) == len(text)


def test_what_was_long_ago_is_found() -> None:
    assert guess("abcX" + "-" * 100_000 + "abc", 1) == "X"


def test_only_the_latest_places_are_looked_at() -> None:
    """Far more often than that the same three letters say little."""
    many = "".join(f"{chr(500 + number)}abc" for number in range(MOST_PLACES))
    assert guess("1abcX" + many[:-4] + "1abc", 1) == "X"
    assert guess("1abcX" + many + "1abc", 1) == "1"


def test_pictures_are_not_guessed() -> None:
    lookup = Lookup()
    lookup.extend([1, 2, 3, -7, -8, 1, 2, 3])
    assert lookup.guess(2) is None
    lookup.extend([-7, -8, 1])
    found = lookup.guess(2)
    assert found is not None
    assert found == [2, 3]


def test_a_long_agreement_ends_the_search() -> None:
    text = "".join(chr(200 + number) for number in range(LONGEST_MATCH))
    assert guess(f"{text}X{text}Y{text}", 1) == "Y"


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
        guessed = guess(text, 5)
        assert (guessed is None) == (not good)
        if guessed is not None:
            found += 1
            best = max(good, key=lambda place: (good[place], place))
            going_on = text
            for step in range(5):
                going_on += going_on[best + 1 + step]
            assert guessed == going_on[-5:]
    assert found > 100
