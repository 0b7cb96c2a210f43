r"""GBNF (llama.cpp's grammars) -> Lark as llguidance reads it, with the same language exactly.

llguidance splits a grammar into lexemes and lets the longest win, where GBNF tries everything: `("a" | "ab") "bc"`
takes "abc" only in the latter. So every lexeme that is written here is a single character: nothing is left to choose.

    GBNF                         Lark
    root ::= "ab" item*          start: /\x{61}/ /\x{62}/ r0*
    item ::= [^a-c\n] | "x"{2}   r0: /[^\x{61}-\x{63}\x{A}]/ | (/\x{78}/){2}
"""

import re
from typing import NoReturn

from server.core.errors import InvalidValue

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_REPEAT = re.compile(r"\{\s*(\d+)\s*(,\s*(\d*)\s*)?\}")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "[": "[", "]": "]", "-": "-", "^": "^", "/": "/"}
_HEX = {"x": 2, "u": 4, "U": 8}
_SPACE = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE_IN_LINE = re.compile(r"(?:[ \t]|#[^\n]*)*")


def to_lark(grammar: str, param: str) -> str:
    """Return the grammar in Lark's notation.

    The nesting must have been checked before (`constraint_limits.check_grammar`): groups are read by recursion.

    Raises:
        InvalidValue: a syntax error, a rule that is missing, or none that is called root.
    """
    return _Reader(grammar, param).read()


class _Reader:
    def __init__(self, text: str, param: str) -> None:
        self._text = text
        self._param = param
        self._at = 0
        self._numbers: dict[str, int] = {}
        self._rules: dict[str, str] = {}

    def read(self) -> str:
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
        for name in [*self._numbers, "root"]:
            if name not in self._rules:
                raise InvalidValue.of(self._param, f"the grammar has no rule {name!r}")
        lines = [f"start: {self._rule('root')}"]
        lines += [f"{self._rule(name)}: {body}" for name, body in self._rules.items()]
        return "\n".join(lines) + "\n"

    def _alternatives(self, *, nested: bool) -> str:
        found = [self._sequence(nested=nested)]
        while self._text.startswith("|", self._at):
            self._at += 1
            self._skip(lines=True)
            found.append(self._sequence(nested=nested))
        return " | ".join(found)

    def _sequence(self, *, nested: bool) -> str:
        items: list[str] = []
        while (item := self._item()) is not None:
            self._skip(lines=nested)
            items.append(self._repeated(item))
            self._skip(lines=nested)
        return " ".join(items) or '""'

    def _item(self) -> str | None:
        char = self._text[self._at : self._at + 1]
        match char:
            case '"':
                return self._literal()
            case "[":
                return self._class()
            case ".":
                self._at += 1
                return r"/[\x{0}-\x{10FFFF}]/"
            case "(":
                self._at += 1
                self._skip(lines=True)
                inner = self._alternatives(nested=True)
                self._skip(lines=True)
                self._expect(")")
                return f"({inner})"
            case _ if _NAME.match(char):
                return self._rule(self._name())
            case "" | "\n" | "\r" | "|" | ")":
                pass
            case _:
                self._refuse(f"{char!r} is not expected here")
        return None

    def _repeated(self, item: str) -> str:
        while True:
            char = self._text[self._at : self._at + 1]
            if char and char in "*+?":
                self._at += 1
                item = f"({item}){char}"
            elif found := _REPEAT.match(self._text, self._at):
                self._at = found.end()
                least, upto, most = found.groups()
                if upto and most and int(most) < int(least):
                    self._refuse(f"{found[0]} repeats at least more often than at most")
                item = f"({item}){{{least}{',' if upto else ''}{most or ''}}}"
            else:
                return item

    def _literal(self) -> str:
        self._at += 1
        chars: list[str] = []
        while not self._text.startswith('"', self._at):
            chars.append(f"/{_code(self._char())}/")
        self._at += 1
        return f"({' '.join(chars)})" if chars else '""'

    def _class(self) -> str:
        self._at += 1
        negated = self._text.startswith("^", self._at)
        self._at += negated
        members = ""
        while not self._text.startswith("]", self._at):
            first = last = self._char()
            if self._text.startswith("-", self._at) and not self._text.startswith("]", self._at + 1):
                self._at += 1
                last = self._char()
            if last < first:
                self._refuse(f"the range {first!r}-{last!r} runs backwards")
            members += _code(first) if first == last else f"{_code(first)}-{_code(last)}"
        self._at += 1
        if not members:
            self._refuse("a class without characters matches nothing")
        return f"/[{'^' if negated else ''}{members}]/"

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

    def _rule(self, name: str) -> str:
        return f"r{self._numbers.setdefault(name, len(self._numbers))}"

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
