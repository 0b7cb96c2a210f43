import pytest

from server.engines.text.gbnf import read_rules
from server.engines.text.lexeme_net import Pairs, meet, positions_of


def leads(text: str) -> int:
    return sum(1 << byte for byte in text.encode())


@pytest.mark.parametrize(
    ("one", "two", "first_goes_on", "second_goes_on", "end_together"),
    [
        ('"a"', '"ab"', "", "b", False),
        ('"ab"', '"a"', "b", "", False),
        ('"ab"', '"ac"', "", "", False),
        ('"ab"', '"ab"', "", "", True),
        ("[a-c]+", "[a-c]+", "abc", "abc", True),
        ('"a"*', '"ab"', "", "b", False),
        ('"a" [bc]', '"ab" "d"?', "", "d", True),
        ('"x"', '"y"', "", "", False),
        ('("a" | "ab") "c"?', '"abcd"', "", "bcd", False),
    ],
)
def test_what_goes_on_where_the_other_ends(
    one: str, two: str, first_goes_on: str, second_goes_on: str, end_together: bool
) -> None:
    first, second = (positions_of(read_rules(f"root ::= {text}", "grammar")["root"]) for text in (one, two))
    meeting, work = meet(first, second)
    assert (meeting.first_goes_on, meeting.second_goes_on) == (leads(first_goes_on), leads(second_goes_on))
    assert meeting.end_together is end_together
    assert work > 0


def test_each_pair_comes_once_in_either_order() -> None:
    pairs = Pairs()
    pairs.add([1, 2], [2, 1])
    found = {pairs.take() for _ in range(3)}
    assert found == {(1, 1), (1, 2), (2, 2)}
    assert pairs.take() is None
    pairs.add([2], [1])
    assert pairs.take() is None
