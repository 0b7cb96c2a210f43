r"""GBNF (llama.cpp's grammars) -> Lark as llguidance reads it, with the same language exactly.

llguidance splits a text into lexemes and lets the longest win, where GBNF tries everything: `("a" | "ab") "bc"` takes
"abc" only in the latter. With lexemes of a single character nothing is left to choose, but a mask over a large
vocabulary then takes milliseconds. Wider ones are made where `lexemes` proves that they choose alike.

    GBNF                     Lark, single characters                   Lark, wide
    root ::= "(" item ")"    start: r0                                 start: r0
    item ::= [^()]+ | root   r0: /\x{28}/ r1 /\x{29}/                   r0: /\x{28}/ r1 /\x{29}/
                             r1: ((/[^\x{28}\x{29}]/)+ | r0)           r1: (/[^\x{28}\x{29}]+/ | r0)
"""

import itertools
import re
from typing import NoReturn

from server.core.errors import InvalidValue
from server.engines.text.gbnf_tree import EMPTY, Chars, Choice, Named, Node, Repeat, Series, lead_bytes
from server.engines.text.lexemes import narrow_lark, wide_lark

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_REPEAT = re.compile(r"\{\s*(\d+)\s*(,\s*(\d*)\s*)?\}")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "[": "[", "]": "]", "-": "-", "^": "^", "/": "/"}
_ROOT = "root"
_MOST_QUANTIFIERS = 8
_HEX = {"x": 2, "u": 4, "U": 8}
_SPACE = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE_IN_LINE = re.compile(r"(?:[ \t]|#[^\n]*)*")


def to_lark(grammar: str, param: str) -> list[str]:
    """Return the grammar in Lark's notation: with wide lexemes where they can be found, and with single characters.

    The nesting must have been checked before (`constraint_limits.check_grammar`): groups are read by recursion.

    Raises:
        InvalidValue: a syntax error, a rule that is missing, or none that is called root.
    """
    rules = read_rules(grammar, param)
    wide = wide_lark(rules, _ROOT)
    return [lark for lark in (wide, narrow_lark(rules, _ROOT)) if lark is not None]


def read_rules(grammar: str, param: str) -> dict[str, Node]:
    """Return the rules of a grammar by their names, `root` among them; raises as `to_lark`."""
    return _Reader(grammar, param).read()


class _Reader:
    def __init__(self, text: str, param: str) -> None:
        self._text = text
        self._param = param
        self._at = 0
        self._named: dict[str, None] = {_ROOT: None}
        self._rules: dict[str, Node] = {}

    def read(self) -> dict[str, Node]:
        self._skip(lines=True)
        while self._at < len(self._text):
            name = self._name()
            self._skip(lines=False)
            self._expect("::=")
            self._skip(lines=True)
            if name in self._rules:
                self._refuse(f"rule {name!r} is defined twice")
            self._rules[name] = self._alternatives(nested=False)
            self._skip(lines=True)
        for name in self._named:
            if name not in self._rules:
                raise InvalidValue.of(self._param, f"the grammar has no rule {name!r}")
        return self._rules

    def _alternatives(self, *, nested: bool) -> Node:
        found = [self._sequence(nested=nested)]
        while self._text.startswith("|", self._at):
            self._at += 1
            self._skip(lines=True)
            found.append(self._sequence(nested=nested))
        return found[0] if len(found) == 1 else Choice(tuple(found))

    def _sequence(self, *, nested: bool) -> Node:
        items: list[Node] = []
        while (item := self._item()) is not None:
            self._skip(lines=nested)
            items.append(self._repeated(item))
            self._skip(lines=nested)
        return items[0] if len(items) == 1 else Series(tuple(items))

    def _item(self) -> Node | None:
        char = self._text[self._at : self._at + 1]
        match char:
            case '"':
                return self._literal()
            case "[":
                return self._class()
            case ".":
                self._at += 1
                return Chars(r"[\x{0}-\x{10FFFF}]", lead_bytes([], negated=True))
            case "(":
                self._at += 1
                self._skip(lines=True)
                inner = self._alternatives(nested=True)
                self._skip(lines=True)
                self._expect(")")
                return inner
            case _ if _NAME.match(char):
                name = self._name()
                self._named[name] = None
                return Named(name)
            case "" | "\n" | "\r" | "|" | ")":
                pass
            case _:
                self._refuse(f"{char!r} is not expected here")
        return None

    def _repeated(self, item: Node) -> Node:
        for count in itertools.count(1):
            found = self._quantifier()
            if found is None:
                break
            if count > _MOST_QUANTIFIERS:
                self._refuse("too many repetitions of repetitions")
            item = EMPTY if found[1] == 0 else Repeat(item, *found)
        return item

    def _quantifier(self) -> tuple[int, int | None] | None:
        """Read how often the item before is repeated, at least and at most; None when it stands once."""
        char = self._text[self._at : self._at + 1]
        if char and char in "*+?":
            self._at += 1
            return int(char == "+"), 1 if char == "?" else None
        found = _REPEAT.match(self._text, self._at)
        if found is None:
            return None
        self._at = found.end()
        least, upto, most = found.groups()
        if upto and most and int(most) < int(least):
            self._refuse(f"{found[0]} repeats at least more often than at most")
        return int(least), int(most) if most else None if upto else int(least)

    def _literal(self) -> Node:
        self._at += 1
        chars: list[Node] = []
        while not self._text.startswith('"', self._at):
            char = self._char()
            chars.append(Chars(_code(char), lead_bytes([(ord(char), ord(char))])))
        self._at += 1
        return chars[0] if len(chars) == 1 else Series(tuple(chars))

    def _class(self) -> Node:
        self._at += 1
        negated = self._text.startswith("^", self._at)
        self._at += negated
        members = ""
        ranges: list[tuple[int, int]] = []
        while not self._text.startswith("]", self._at):
            first = last = self._char()
            if self._text.startswith("-", self._at) and not self._text.startswith("]", self._at + 1):
                self._at += 1
                last = self._char()
            if last < first:
                self._refuse(f"the range {first!r}-{last!r} runs backwards")
            ranges.append((ord(first), ord(last)))
            members += _code(first) if first == last else f"{_code(first)}-{_code(last)}"
        self._at += 1
        if not members:
            self._refuse("a class without characters matches nothing")
        return Chars(f"[{'^' if negated else ''}{members}]", lead_bytes(ranges, negated=negated))

    def _char(self) -> str:
        char = self._text[self._at : self._at + 1]
        if not char or char == "\n":
            self._refuse("a string or class is not closed")
        self._at += 1
        if char != "\\":
            return char
        kind = self._text[self._at : self._at + 1]
        self._at += 1
        if kind in _HEX:
            digits = self._text[self._at : self._at + _HEX[kind]]
            self._at += _HEX[kind]
            if not re.fullmatch(r"[0-9A-Fa-f]+", digits) or len(digits) != _HEX[kind]:
                self._refuse(f"\\{kind} needs {_HEX[kind]} hexadecimal digits")
            code = int(digits, 16)
            if code > 0x10FFFF or 0xD800 <= code < 0xE000:
                self._refuse(f"\\{kind}{digits} is no character")
            return chr(code)
        if kind not in _ESCAPES:
            self._refuse(f"\\{kind} is no escape")
        return _ESCAPES[kind]

    def _name(self) -> str:
        found = _NAME.match(self._text, self._at)
        if found is None:
            self._refuse("a rule's name is expected here")
        self._at = found.end()
        return found[0]

    def _skip(self, *, lines: bool) -> None:
        space = (_SPACE if lines else _SPACE_IN_LINE).match(self._text, self._at)
        self._at = space.end() if space else self._at

    def _expect(self, token: str) -> None:
        if not self._text.startswith(token, self._at):
            self._refuse(f"{token!r} is expected here")
        self._at += len(token)

    def _refuse(self, why: str) -> NoReturn:
        line = self._text.count("\n", 0, self._at) + 1
        raise InvalidValue.of(self._param, f"the grammar is wrong in line {line}: {why}")


def _code(char: str) -> str:
    return f"\\x{{{ord(char):X}}}"
