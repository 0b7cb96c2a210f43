import pytest

from server.core.errors import InvalidValue

pytest.importorskip("llguidance")

from server.core.text import GrammarConstraint
from server.engines.text.constraints import Constraints
from server.engines.text.gbnf import to_lark
from tests.support.spelled_words import SpelledWords

JSON = r"""
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::= "{" ws ( string ":" ws value ("," ws string ":" ws value)* )? "}" ws
array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::=
  "\"" (
    [^"\\\x7F\x00-\x1F] |
    "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) # escapes
  )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ws
ws ::= | " " | "\n" [ \t]{0,20}
"""


@pytest.fixture(scope="module")
def constraints() -> Constraints:
    return Constraints(SpelledWords())


@pytest.mark.parametrize(
    ("grammar", "whole", "others"),
    [
        ('root ::= "a" | "bc"', ["a", "bc"], ["b", "ac"]),
        ('root ::= ("a" | "ab") "bc"', ["abc", "abbc"], ["ab", "abcc"]),
        ('root ::= [a-z]+ "b"', ["ab", "aab", "abab"], ["a", "aba"]),
        ('root ::= "x"{2,3} "y"?', ["xx", "xxxy"], ["x", "xxxx"]),
        ('root ::= "x"{2} "y"*', ["xx", "xxyy"], ["x", "xxx"]),
        (
            "root ::= word-1 | Word_2 # either\nword-1 ::= \"a\"\nWord_2 ::=\n  'b'".replace("'", '"'),
            ["a", "b"],
            ["ab"],
        ),
        (r'root ::= "\x41\u0042\U00000043\t\"\\" [^\n\]] .', ['ABC\t"\\x\n'], ['ABC\t"\\]x']),
        ('root ::= "(" root ")" | ""', ["", "(())"], ["(", "())"]),
        ('root ::= "a" |', ["", "a"], ["aa"]),
        (JSON, ['{"a\\n": [1, -2.5, true], "b": {}}'], ['{"a": }', '{"a" "b"}', '["a"]']),
    ],
)
def test_the_language_is_that_of_the_grammar(
    constraints: Constraints, grammar: str, whole: list[str], others: list[str]
) -> None:
    def is_whole(text: str) -> bool:
        mask = constraints.mask(GrammarConstraint(grammar=grammar))
        return mask.follow(text) and mask.may_end

    assert [text for text in whole if not is_whole(text)] == []
    assert [text for text in others if is_whole(text)] == []


@pytest.mark.parametrize(
    "grammar",
    [
        "",
        'start ::= "a"',
        "root ::= missing",
        'root ::= "a\nb"',
        "root ::= [abc",
        "root ::= []",
        "root ::= [b-a]",
        r'root ::= "\q"',
        r'root ::= "\x4"',
        r'root ::= "\U00110000"',
        r'root ::= "\uD800"',
        'root ::= ("a"',
        'root ::= "a" )',
        'root = "a"',
        'root ::= "a"\nroot ::= "b"',
        'root ::= "a"{3,1}',
        "root ::= *",
        "root ::= &",
        'root ::= "a"' + "*" * 1000,
    ],
)
def test_what_is_no_grammar_is_refused_with_its_line(grammar: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        to_lark(grammar, "grammar")
    assert refused.value.fact("param") == "grammar"
