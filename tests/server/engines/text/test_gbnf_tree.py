import pytest

from server.engines.text.gbnf import read_rules
from server.engines.text.gbnf_tree import Named, flattened, is_regular, lead_bytes, may_be_empty, pattern, walk


def flat(grammar: str) -> str | None:
    """Return the root as a regular expression with letters written plainly, None when it is none."""
    rules = flattened(read_rules(grammar, "grammar"), "root")
    assert rules is not None
    root = rules["root"]
    if not is_regular(root):
        return None
    text = pattern(root)
    for letter in "abcxyz":
        text = text.replace(rf"\x{{{ord(letter):X}}}", letter)
    return text


@pytest.mark.parametrize(
    ("grammar", "expression"),
    [
        ('root ::= "ab" | "c"', "ab|c"),
        ('root ::= ("ab" | "c") "x"', "(?:ab|c)x"),
        ('root ::= "ab"* "c"{2,3} [xy]{2,} "z"{2} "a"?', "(?:ab)*c{2,3}[xy]{2,}z{2}a?"),
        ('root ::= x x\nx ::= "a" | y\ny ::= "b"', "(?:a|b)(?:a|b)"),
        ('root ::= "a" root | "b"', "(?:a)*b"),
        ('root ::= "a" | "b" root | "c" root', "(?:b|c)*a"),
        ('root ::= ("a" root)?', "(?:a)*(?:)"),
        ('root ::= "a" ("b" root)?', "(?:ab)*a"),
        ('root ::= "x" y\ny ::= [ab] y | ""', "x(?:[ab])*(?:)"),
        ('root ::= root | "a"', "a"),
        ('root ::= "a" root "b" | "c"', None),
        ('root ::= root "a" | "b"', None),
        ('root ::= "a" root', None),
        ('root ::= "a" x\nx ::= "b" root | "c"', None),
        ('root ::= "a" root* | "b"', None),
        ('root ::= ""', "(?:)"),
        ('root ::= "a"{0} "b"', "(?:)b"),
    ],
)
def test_a_regular_root_becomes_one_expression(grammar: str, expression: str | None) -> None:
    found = flat(grammar)
    assert found == expression


def test_what_would_become_too_large_stays_named() -> None:
    doubling = "\n".join(f"r{number} ::= r{number - 1} r{number - 1}" for number in range(1, 60))
    rules = flattened(read_rules(f'root ::= r59\nr0 ::= "a"\n{doubling}', "grammar"), "root")
    assert rules is not None
    assert not is_regular(rules["root"])
    assert sum(1 for tree in rules.values() for _ in walk(tree)) < 10**6


def test_many_uses_of_large_rules_are_not_looked_through() -> None:
    large = "\n".join(f"r{number} ::= r{number - 1} r{number - 1}" for number in range(1, 12))
    uses = " | ".join(f'"{number}" r11 root "x"' for number in range(500))
    assert flattened(read_rules(f'root ::= {uses} | "y"\nr0 ::= "a"\n{large}', "grammar"), "root") is None


def test_a_long_chain_of_rules_is_no_deep_tree() -> None:
    chain = "\n".join(f'r{number} ::= "a" r{number - 1}' for number in range(1, 3000))
    rules = flattened(read_rules(f'root ::= r2999\nr0 ::= "a"\n{chain}', "grammar"), "root")
    assert rules is not None
    assert any(isinstance(part, Named) for part in walk(rules["root"]))


@pytest.mark.parametrize(
    ("grammar", "empty"),
    [('root ::= "a"', False), ('root ::= "a"?', True), ('root ::= "a"* "b"', False), ('root ::= "a" | ""', True)],
)
def test_whether_the_empty_text_is_among_them(grammar: str, empty: bool) -> None:
    assert may_be_empty(read_rules(grammar, "grammar")["root"]) is empty


@pytest.mark.parametrize(
    "ranges",
    [
        [(0x41, 0x41)],
        [(0x20, 0x7E)],
        [(0x70, 0x90)],
        [(0x7FF, 0x800)],
        [(0xC0, 0xFF), (0x61, 0x62)],
        [(0x3041, 0x309F)],
        [(0xFFFF, 0x10000)],
        [(0x1F600, 0x1F64F)],
    ],
)
def test_the_first_bytes_of_characters(ranges: list[tuple[int, int]]) -> None:
    def leads(codes: list[int]) -> int:
        return sum(1 << byte for byte in {chr(code).encode()[0] for code in codes if not 0xD800 <= code < 0xE000})

    inside = [code for low, high in ranges for code in range(low, high + 1)]
    assert lead_bytes(ranges) == leads(inside)
    assert lead_bytes(ranges, negated=True) == leads(sorted(set(range(0x110000)) - set(inside)))
