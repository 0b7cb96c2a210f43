import json

import pytest

pytest.importorskip("llguidance")

from server.core.text import JsonConstraint
from server.engines.text.constraints import Constraints
from server.engines.text.landing import Landing, StringState, single_characters
from tests.support.spelled_words import SpelledWords

WORDS = SpelledWords(words=["true", "false", '","'])
SINGLE = single_characters(WORDS.size, WORDS.piece)
SCHEMA = {
    "type": "object",
    "properties": {
        "text": {"type": "string", "minLength": 2},
        "flag": {"type": "boolean"},
        "kind": {"enum": ["one", "another"]},
        "list": {"type": "array", "items": {"type": "integer", "minimum": 10}, "minItems": 2},
        "more": {"type": "object"},
    },
    "required": ["text", "flag", "kind", "list"],
    "additionalProperties": False,
}
BEGINNINGS = [
    "",
    "{",
    '{"text',
    '{"text": "a { b',
    '{"text": "a\\',
    '{"text": "aa", "flag": t',
    '{"text": "aa", "flag": true, ',
]


@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_from_anywhere_a_way_leads_to_a_valid_end(beginning: str) -> None:
    mask = Constraints(WORDS).mask(JsonConstraint(schema=json.dumps(SCHEMA)))
    landing = Landing(WORDS.piece, SINGLE)
    assert mask.follow(beginning)
    assert landing.tokens(mask, beginning, 10_000) == []
    ending = landing.shortest(mask, 300)
    assert ending is not None
    made = json.loads(beginning + "".join(WORDS.piece(token).decode() for token in ending))
    assert set(made) == set(SCHEMA["required"])
    assert len(made["text"]) >= 2 and isinstance(made["flag"], bool)
    assert made["kind"] in ("one", "another")
    assert len(made["list"]) == 2 and min(made["list"]) >= 10


def test_it_acts_late_but_in_time() -> None:
    mask = Constraints(WORDS).mask(JsonConstraint(schema=json.dumps(SCHEMA)))
    landing = Landing(WORDS.piece, SINGLE)
    text = '{"text": "'
    assert mask.follow(text)
    assert landing.tokens(mask, text, 200) == []
    for left in range(199, 0, -1):
        assert mask.follow("x")
        text += "x"
        if ending := landing.tokens(mask, "x", left):
            break
    assert len(ending) <= left <= len(ending) + 8
    assert json.loads(text + "".join(WORDS.piece(token).decode() for token in ending))


def test_it_gives_up_when_there_is_no_room() -> None:
    mask = Constraints(WORDS).mask(JsonConstraint(schema=json.dumps(SCHEMA)))
    assert Landing(WORDS.piece, SINGLE).tokens(mask, "", 10) == []


@pytest.mark.parametrize(
    ("text", "inside"),
    [("", False), ('"', True), ('"a"', False), ('"a\\"', True), ('"\\\\"', False), ('{"a": "b', True)],
)
def test_strings_are_followed(text: str, inside: bool) -> None:
    whole, bit_by_bit = StringState(), StringState()
    whole.feed(text)
    for char in text:
        bit_by_bit.feed(char)
        bit_by_bit = bit_by_bit.copy()
    assert whole.inside is bit_by_bit.inside is inside
