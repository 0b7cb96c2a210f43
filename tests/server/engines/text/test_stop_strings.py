import random

import pytest

from server.engines.text.stop_strings import StopStrings

# stops, whole text, what may be shown, whether a stop string was found
TABLE = [
    ((), "anything", "anything", False),
    (("",), "anything", "anything", False),
    (("END",), "one ENDtwo", "one ", True),
    (("END",), "one EN", "one EN", False),
    (("END",), "one ENEND", "one EN", True),
    (("END",), "END", "", True),
    (("aab",), "aaab", "a", True),
    (("abab",), "ababab", "", True),
    (("abac",), "ababac", "ab", True),
    (("b", "abc"), "xabc", "xa", True),
    (("bc", "abc"), "xabc", "x", True),
    (("\n\n",), "a\nb\n\nc", "a\nb", True),
    (("\nUser:",), " hi\nUse me\nUser: x", " hi\nUse me", True),
    (("né", "猫🙂"), "a猫猫🙂b", "a猫", True),
    (("xx", "xy"), "xzxy", "xz", True),
]


def fed(stops: tuple[str, ...], pieces: list[str]) -> tuple[str, bool]:
    machine = StopStrings(stops)
    shown = "".join(machine.feed(piece) for piece in pieces)
    if machine.found:
        assert machine.flush() == ""
        assert machine.feed("more") == ""
    return shown + machine.flush(), machine.found


@pytest.mark.parametrize(("stops", "text", "shown", "found"), TABLE)
def test_whole_and_char_by_char(stops: tuple[str, ...], text: str, shown: str, found: bool) -> None:
    assert fed(stops, [text]) == (shown, found)
    assert fed(stops, list(text)) == (shown, found)
    assert fed(stops, ["", *text, ""]) == (shown, found)


@pytest.mark.parametrize(("stops", "text", "shown", "found"), TABLE)
def test_every_cut_in_two(stops: tuple[str, ...], text: str, shown: str, found: bool) -> None:
    for cut in range(len(text) + 1):
        assert fed(stops, [text[:cut], text[cut:]]) == (shown, found)


def test_nothing_of_a_stop_string_is_ever_shown_early() -> None:
    machine = StopStrings(["<stop>"])
    assert machine.feed("a<st") == "a"
    assert machine.feed("o") == ""
    assert machine.feed("x") == "<stox"
    assert machine.feed("<sto") == ""
    assert machine.flush() == "<sto"


def test_random_texts_do_not_depend_on_the_pieces() -> None:
    choice = random.Random(7)
    for _ in range(300):
        text = "".join(choice.choices("ab", k=12))
        stops = tuple("".join(choice.choices("ab", k=choice.randint(1, 4))) for _ in range(choice.randint(1, 3)))
        pieces, rest = [], text
        while rest:
            size = choice.randint(1, 4)
            pieces.append(rest[:size])
            rest = rest[size:]
        # The rule itself: the stop that is complete first; of those that end there, the longest.
        ends = [(text.find(stop) + len(stop), -len(stop)) for stop in stops if stop in text]
        expected = (text[: sum(min(ends))], True) if ends else (text, False)
        assert fed(stops, pieces) == expected


def test_hundreds_of_strings_are_found_as_few_are() -> None:
    choice = random.Random(8)
    for _ in range(40):
        text = "".join(choice.choices("abc", k=300))
        stops = tuple("".join(choice.choices("abc", k=choice.randint(5, 9))) for _ in range(300))
        ends = [(text.find(stop) + len(stop), -len(stop)) for stop in stops if stop in text]
        expected = (text[: sum(min(ends))], True) if ends else (text, False)
        assert fed(stops, [text[at : at + 3] for at in range(0, len(text), 3)]) == expected


def test_the_string_that_was_found_is_named_unless_nobody_asked_for_it() -> None:
    stops = StopStrings(("END", "x"), unnamed=("User:", "x"))
    assert stops.which is None
    stops.feed("on EN")
    stops.feed("D")
    assert stops.which == "END"
    own = StopStrings(("END",), unnamed=("User:",))
    assert own.feed("Hi User: x") == "Hi "
    assert own.found
    assert own.which is None
    both = StopStrings(("x",), unnamed=("x",))
    both.feed("x")
    assert both.which == "x"
