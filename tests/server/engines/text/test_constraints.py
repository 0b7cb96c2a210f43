import json

import numpy as np
import pytest

from server.core.errors import InvalidValue

pytest.importorskip("llguidance")

from server.core.text import Constraint, GrammarConstraint, JsonConstraint, RegexConstraint
from server.engines.text.constraints import Constraints, TokenMask, split_control
from tests.support.spelled_words import SpelledWords

WORDS = SpelledWords(words=["true", "false", '{"', "name"], control=["<|call|>", "<|end|>"])


@pytest.fixture
def constraints() -> Constraints:
    return Constraints(WORDS)


def logits() -> "np.ndarray[tuple[int], np.dtype[np.float32]]":
    return np.zeros(WORDS.size, np.float32)


def allowed_texts(mask: TokenMask) -> set[str]:
    """Return what the mask leaves of a row, whichever way it takes."""
    row = logits()
    ids = mask.restrict(row)
    return WORDS.texts(np.flatnonzero(np.isfinite(row)) if ids is None else ids)


@pytest.mark.parametrize(
    ("constraint", "text", "whole"),
    [
        (JsonConstraint(schema='{"type": "object"}'), '{"a": [1, {"b": null}]}', True),
        (JsonConstraint(schema='{"type": "object"}'), "[1]", False),
        (JsonConstraint(schema="{}"), '"text"', True),
        (JsonConstraint(schema='{"enum": ["red", "blue"]}'), '"blue"', True),
        (JsonConstraint(schema='{"enum": ["red", "blue"]}'), '"green"', False),
        (JsonConstraint(schema='{"$ref": "#/$defs/x", "$defs": {"x": {"type": "boolean"}}}'), "true", True),
        (JsonConstraint(schema='{"type": "object", "x-guidance": {"whitespace_flexible": false}}'), "{ }", True),
        (JsonConstraint(schema='{"type": "object"}'), '{\n  "a": 1\n}', True),
        (JsonConstraint(schema='{"type": "object"}'), '{"a":' + " " * 50 + "1}", False),
        (RegexConstraint(pattern=r"[a-z]+/\d{2}"), "abc/12", True),
        (RegexConstraint(pattern=r"[a-z]+/\d{2}"), "abc/1", False),
        (RegexConstraint(pattern=r"a\/\n"), "a/\n", True),
        (GrammarConstraint(grammar='start: "a" | /b+/', syntax="lark"), "bbb", True),
        (GrammarConstraint(grammar='root ::= "a" | [b]+'), "bbb", True),
    ],
)
def test_a_text_is_whole_when_it_obeys(
    constraints: Constraints, constraint: Constraint, text: str, whole: bool
) -> None:
    mask = constraints.mask(constraint)
    assert (mask.follow(text) and mask.may_end) is whole


def test_the_end_is_allowed_exactly_where_the_text_may_end(constraints: Constraints) -> None:
    mask = constraints.mask(RegexConstraint(pattern="ab?"))
    assert allowed_texts(mask) == {"a"}
    mask.accept(ord("a"))
    assert allowed_texts(mask) == {"b", "<end>"}
    assert not mask.is_complete
    mask.accept(ord("b"))
    assert allowed_texts(mask) == {"<end>"}
    assert mask.is_complete


def test_where_much_is_allowed_the_row_itself_says_so(constraints: Constraints) -> None:
    mask = constraints.mask(RegexConstraint(pattern="[^q]"))
    row = logits()
    assert mask.restrict(row) is None
    assert row[ord("q")] == -np.inf
    assert row[ord("p")] == 0
    assert all(row[token] == -np.inf for token in (*WORDS.control_ids.values(), WORDS.end))


@pytest.mark.parametrize("pattern", ["[^q]", "[a-c]x", "(.|\\n)*", "b"])
def test_what_is_allowed_is_told_alike_in_every_way(constraints: Constraints, pattern: str) -> None:
    mask = constraints.mask(RegexConstraint(pattern=pattern))
    allowed = mask.allowed()
    row = logits()
    ids = mask.restrict(row)
    assert np.flatnonzero(np.isfinite(row)).tolist() == (
        list(range(WORDS.size)) if ids is not None else allowed.tolist()
    )
    assert ids is None or ids.tolist() == allowed.tolist()
    assert [token for token in range(WORDS.size) if mask.allows(token)] == allowed.tolist()


@pytest.mark.parametrize("size", [62, 63, 64, 65, 127, 128, 200])
@pytest.mark.parametrize("ends", [True, False])
def test_masks_fit_vocabularies_of_any_size(size: int, ends: bool) -> None:
    words = SpelledWords(words=[f"<{number}>" for number in range(size)])
    words.ends = frozenset({words.size - 1} if ends else ())
    mask = Constraints(words).mask(RegexConstraint(pattern="(<[0-9]+>)*"))
    last = words.size - 1 if ends else words.size - 2
    assert int(mask.allowed()[-1]) == last
    row = np.zeros(words.size, np.float32)
    mask.restrict(row)
    assert mask.allows(last)


def test_a_mask_that_was_asked_for_is_made_anew_after_each_token(constraints: Constraints) -> None:
    mask = constraints.mask(RegexConstraint(pattern="abc"))
    for letter in "abc":
        assert allowed_texts(mask) == {letter}
        mask.accept(ord(letter))
    again = constraints.mask(RegexConstraint(pattern="abc"))
    assert allowed_texts(again) == {"a"}
    assert again.follow("ab")
    assert allowed_texts(again) == {"c"}


def test_control_tokens_are_no_text(constraints: Constraints) -> None:
    mask = constraints.mask(RegexConstraint(pattern=r"(.|\n)*"))
    assert not mask.follow("<|call|>")
    assert constraints.tokens("a<|call|>b") == [ord("a"), WORDS.control_ids["<|call|>"], ord("b")]


def test_tokens_of_several_characters_are_allowed_where_they_fit(constraints: Constraints) -> None:
    mask = constraints.mask(JsonConstraint(schema='{"type": "boolean"}'))
    assert allowed_texts(mask) == {"true", "false", "t", "f"}


def test_copies_go_their_own_ways(constraints: Constraints) -> None:
    first = constraints.mask(JsonConstraint(schema='{"type": "object"}'))
    second = constraints.mask(JsonConstraint(schema='{"type": "object"}'))
    assert first.follow('{"a"')
    third = first.copy()
    assert second.follow("{}")
    assert second.is_complete
    assert not first.may_end
    assert first.follow(": 1}")
    assert not third.may_end


def test_admitting_is_not_going_on(constraints: Constraints) -> None:
    mask = constraints.mask(RegexConstraint(pattern="abc"))
    assert mask.admits(WORDS.tokens("ab"))
    assert not mask.admits(WORDS.tokens("ac"))
    assert mask.follow("abc")


def test_a_vocabulary_without_an_end_token_leaves_nothing_where_the_text_must_end() -> None:
    words = SpelledWords()
    words.ends = frozenset()
    mask = Constraints(words).mask(RegexConstraint(pattern="a"))
    mask.accept(ord("a"))
    ids = mask.restrict(np.zeros(words.size, np.float32))
    assert ids is not None and len(ids) == 0


def test_a_constraint_can_stand_within_a_grammar(constraints: Constraints) -> None:
    within = 'start: ("<t>" x)? @body\nx[lazy]: T "</t>"\nT: /(.|\\n)*/\n'
    for body, text in (
        (JsonConstraint(schema='{"type": "object"}'), "{}"),
        (RegexConstraint(pattern="[ab]+/"), "ab/"),
        (GrammarConstraint(grammar='root ::= "a" [b]'), "ab"),
    ):
        for before in ("", "<t>x { y</t>"):
            mask = constraints.mask(body, within=within)
            assert mask.follow(before + text)
            assert mask.may_end


@pytest.mark.parametrize(
    "constraint",
    [
        JsonConstraint(schema='{"type": "nonsense"}', param="p"),
        JsonConstraint(schema='{"uniqueItems": true}', param="p"),
        JsonConstraint(schema='{"anyOf": []}', param="p"),
        JsonConstraint(schema='{"pattern": "(((", "type": "string"}', param="p"),
        JsonConstraint(schema="false", param="p"),
        RegexConstraint(pattern="(((", param="p"),
        RegexConstraint(pattern=r"(?=a)b", param="p"),
        RegexConstraint(pattern="a" * 1000, param="p"),
        GrammarConstraint(grammar="start: nothing", syntax="lark", param="p"),
        GrammarConstraint(grammar="start: @other", syntax="lark", param="p"),
        GrammarConstraint(grammar="root ::= " + "(" * 60_000, param="p"),
    ],
)
def test_what_cannot_be_compiled_is_refused_and_says_why(constraints: Constraints, constraint: Constraint) -> None:
    with pytest.raises(InvalidValue) as refused:
        constraints.mask(constraint)
    assert refused.value.fact("param") == "p"
    assert refused.value.message
    assert "\n" not in refused.value.message


def test_what_was_refused_is_refused_again_in_the_same_words_without_being_read(
    constraints: Constraints, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = GrammarConstraint(grammar="root ::= nobody", param="grammar")
    with pytest.raises(InvalidValue) as first:
        constraints.mask(work)
    monkeypatch.setattr(constraints, "_compile_within", None)
    with pytest.raises(InvalidValue) as again:
        constraints.mask(work)
    assert (again.value.message, again.value.facts) == (first.value.message, first.value.facts)
    with pytest.raises(TypeError, match="not callable"):
        constraints.mask(GrammarConstraint(grammar="root ::= nobody", param="other"))


def test_only_the_latest_refusals_are_remembered(constraints: Constraints) -> None:
    for number in range(100):
        with pytest.raises(InvalidValue):
            constraints.mask(GrammarConstraint(grammar=f"root ::= nobody{number}"))
    assert len(constraints._refused) < 50


def test_the_cache_of_grammars_is_bounded(constraints: Constraints) -> None:
    for number in range(100):
        constraints.mask(JsonConstraint(schema=json.dumps({"const": number})))
    assert len(constraints._compiled) <= 32


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("plain", [("plain", None)]),
        ("", []),
        ("<a>", [("<a>", 1)]),
        ("x<ab>y<a><ab>", [("x", None), ("<ab>", 2), ("y", None), ("<a>", 1), ("<ab>", 2)]),
    ],
)
def test_control_tokens_are_cut_out(text: str, parts: list[tuple[str, int | None]]) -> None:
    assert split_control(text, {"<a>": 1, "<ab>": 2}) == parts


@pytest.mark.parametrize(
    "constraint",
    [
        RegexConstraint(pattern="(true|false) name, and (true|x) again"),
        JsonConstraint(
            schema='{"type": "object", "properties": {"name": {"enum": ["ab", "ac"]}}, "required": ["name"]}'
        ),
    ],
)
def test_what_is_said_to_come_is_all_that_is_allowed(constraints: Constraints, constraint: Constraint) -> None:
    """Each token that comes in any case is the only one in its place; where there is a choice, none does."""
    mask = constraints.mask(constraint)
    certain = chosen = 0
    while not mask.is_complete:
        coming = mask.coming()
        for token in coming:
            assert mask.allowed().tolist() == [token]
            mask.accept(token)
        certain += len(coming)
        if not coming:
            allowed = mask.allowed()
            mask.accept(int(allowed[-1]))
            chosen += 1
    assert certain >= 3
    assert chosen >= 1
    assert mask.may_end
