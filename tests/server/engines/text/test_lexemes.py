import itertools
import random
import re

import numpy as np
import pytest

pytest.importorskip("llguidance")

from server.core.text import GrammarConstraint
from server.engines.text.constraints import Constraints, TokenMask
from server.engines.text.gbnf import read_rules, to_lark
from server.engines.text.gbnf_tree import Chars, Choice, Named, Node, Repeat, Series
from server.engines.text.prefix import Tokens

LETTERS = ("a", "b", "é", "è")
WORDS = ("ab", "ba", "aab", "bb", "éa", "èb", "aé")
LONGEST = 4


class Spelled:
    """All bytes are tokens, and some words."""

    _pieces = (*(bytes([byte]) for byte in range(256)), *(word.encode() for word in WORDS))
    size = len(_pieces) + 1
    ends = frozenset({size - 1})

    def __init__(self) -> None:
        self.control_ids: dict[str, int] = {}

    def piece(self, token: int) -> bytes:
        return self._pieces[token] if token < len(self._pieces) else b""

    def tokenise(self, text: str, *, special: bool, room: int) -> Tokens:
        return np.frombuffer(text.encode(), np.uint8).astype(np.int32)


@pytest.fixture(scope="module")
def constraints() -> Constraints:
    return Constraints(Spelled())


def mask_of(constraints: Constraints, grammar: str, *, wide: bool) -> TokenMask:
    return constraints.mask(GrammarConstraint(grammar=to_lark(grammar, "grammar")[0 if wide else -1], syntax="lark"))


def obeys(mask: TokenMask, text: str) -> bool:
    way = mask.copy()
    return way.follow(text) and way.may_end


def language(grammar: str) -> set[str]:
    """Return the texts of a grammar up to a length, by what its rules say and nothing else."""
    rules = read_rules(grammar, "grammar")
    known: dict[str, set[str]] = {name: set() for name in rules}
    while True:
        found = {name: texts(tree, known) for name, tree in rules.items()}
        if found == known:
            return known["root"]
        known = found


def texts(node: Node, known: dict[str, set[str]]) -> set[str]:
    match node:
        case Chars(pattern=pattern):
            return {letter for letter in LETTERS if is_in(letter, pattern)}
        case Named(name=name):
            return known[name]
        case Choice(options=options):
            return set().union(*(texts(option, known) for option in options))
        case Series(items=items):
            found = {""}
            for item in items:
                found = joined(found, texts(item, known))
            return found
        case Repeat(item=item, least=least, most=most):
            once = texts(item, known)
            found, last = set(), {""}
            for count in range(max(least, LONGEST) + 1 if most is None else most + 1):
                found |= last if count >= least else set()
                last = joined(last, once)
            return found
    raise AssertionError(node)


def joined(heads: set[str], tails: set[str]) -> set[str]:
    return {head + tail for head in heads for tail in tails if len(head + tail) <= LONGEST}


def is_in(letter: str, pattern: str) -> bool:
    listed = rf"\x{{{ord(letter):X}}}" in pattern
    return not listed if pattern.startswith("[^") else listed


class Writer:
    """Writes grammars at random, of few letters, so that much is ambiguous."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._names = ["root", "x", "y"]

    def grammar(self) -> str:
        return "\n".join(f"{name} ::= {self._choice(3)}" for name in self._names)

    def _choice(self, depth: int) -> str:
        return " | ".join(self._series(depth) for _ in range(self._random.choice((1, 1, 2, 3))))

    def _series(self, depth: int) -> str:
        return " ".join(self._item(depth) for _ in range(self._random.choice((1, 1, 2, 3)))) or '""'

    def _item(self, depth: int) -> str:
        pick = self._random.random()
        letters = "".join(self._random.choices(LETTERS, k=self._random.choice((1, 1, 2, 3))))
        if pick < 0.35:
            item = f'"{letters}"'
        elif pick < 0.55:
            item = f"[{self._random.choice(('', '', '^'))}{letters}]"
        elif pick < 0.72 or depth == 0:
            item = self._random.choice(self._names)
        else:
            item = f"({self._choice(depth - 1)})"
        return item + self._random.choice(("", "", "", "*", "+", "?", "{1,2}", "{2}"))


@pytest.mark.parametrize("seed", range(60))
def test_the_language_of_any_grammar_stays_the_same(constraints: Constraints, seed: int) -> None:
    grammar = Writer(seed).grammar()
    whole = language(grammar)
    if not whole:
        return
    mask = mask_of(constraints, grammar, wide=True)
    every = ("".join(letters) for count in range(LONGEST + 1) for letters in itertools.product(LETTERS, repeat=count))
    assert {text for text in every if obeys(mask, text)} == whole, grammar


@pytest.mark.parametrize("seed", range(60, 90))
def test_wide_lexemes_allow_the_tokens_that_single_characters_allow(constraints: Constraints, seed: int) -> None:
    grammar = Writer(seed).grammar()
    if not language(grammar):
        return
    source = random.Random(seed)
    for _ in range(5):
        wide, narrow = (mask_of(constraints, grammar, wide=wide) for wide in (True, False))
        for _ in range(6):
            allowed = wide.allowed()
            assert allowed.tolist() == narrow.allowed().tolist(), grammar
            token = int(source.choice(allowed))
            if token in Spelled.ends:
                break
            wide.accept(token)
            narrow.accept(token)


@pytest.mark.parametrize(
    ("grammar", "lexemes"),
    [
        # Regular as a whole.
        ('root ::= ("a" | "ab") "bc"', [r"(?:\x{61}|\x{61}\x{62})\x{62}\x{63}"]),
        # Nothing that may follow the run is in it.
        ('root ::= "(" item ")"\nitem ::= [^()]+ | root', [r"\x{28}", r"[^\x{28}\x{29}]+", r"\x{29}"]),
        # What is repeated without end is a run between the others.
        (
            'root ::= "(" ([ab] | root)* ")"',
            [r"\x{28}", r"(?:[\x{61}\x{62}])*", r"(?:[\x{61}\x{62}])*", r"\x{29}"],
        ),
        # "a" may be followed by "b", which the other goes on with.
        ('root ::= ("a" | "ab") root "x" | "bc"', [r"\x{61}", r"\x{61}", r"\x{62}", r"\x{78}", r"\x{62}\x{63}"]),
        # Of two characters with the same first byte, the second is read by whichever lexeme goes on.
        ('root ::= ("a" | "aè") root "x" | "é"', [r"\x{61}", r"\x{61}", r"\x{E8}", r"\x{78}", r"\x{E9}"]),
        # Both end together, and each is followed by what the other is not.
        (
            'root ::= "ax" root "b" | [a] "x" root "c" | "y"',
            [r"\x{61}\x{78}", r"\x{62}", r"[\x{61}]\x{78}", r"\x{63}", r"\x{79}"],
        ),
    ],
)
def test_how_wide_lexemes_are(grammar: str, lexemes: list[str]) -> None:
    wide = to_lark(grammar, "grammar")[0]
    assert sorted(part.strip("/") for part in re.findall(r"/[^/]+/", wide)) == sorted(lexemes)


def test_what_takes_too_long_to_look_through_is_left_in_single_characters() -> None:
    many = " | ".join(f'[a-y]+ root "z" [a-{chr(98 + number % 20)}]' for number in range(400))
    assert len(to_lark(f'root ::= {many} | "z"', "grammar")) == 1
