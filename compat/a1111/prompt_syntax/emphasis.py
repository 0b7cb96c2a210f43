r"""Level 3 of a prompt: attention weights and chunk breaks.

`(x)` multiplies by 1.1, `[x]` divides by 1.1, `(x:1.3)` multiplies by 1.3, nested ones multiply. Brackets that are
never closed act to the end, closing ones without partner are text. A backslash takes the meaning from a bracket.
Neighbours of equal weight are one span, because each span is tokenised by itself. `BREAK` as a word, with the blanks
around it, is a break; inside weighted brackets it turns into a plain word with a negative weight, as in the original.

| written | pieces |
|---|---|
| `a (red:1.4) ((blue)) [c]` | `a ` 1, `red` 1.4, ` ` 1, `blue` 1.21, ` ` 1, `c` 0.909 |
| `(unnecessary)(parens)` | `unnecessaryparens` 1.1 |
| `\(literal\]` | `(literal]` 1 |
| `(a:1,2)` | `a:1,2` 1.1 |
| `(a:1.1:1.2)` | `a:1.1` 1.2 |
| `a BREAK b` | `a` 1, break, `b` 1 |
"""

import math
import re

from compat.a1111.prompt_syntax.limits import DEPTH, too_deep
from server.core.errors import InvalidValue
from server.core.prompt import Break, Piece, Span

_TOKEN = re.compile(r"\\[()\[\]\\]|\\|\(|\[|:\s*([+-]?[.\d]+)\s*\)|\)|\]|[^\\()\[\]:]+|:")
_BREAK = re.compile(r"\bBREAK\b")

ROUND = 1.1
SQUARE = 1 / 1.1
BREAK_WEIGHT = -1.0


def pieces_of(text: str, param: str) -> tuple[Piece, ...]:
    """Return the spans and breaks of one text, at least one span.

    Raises:
        InvalidValue: brackets nested too deep, or a weight without bounds.
    """
    spans = _Spans(param)
    for match in _TOKEN.finditer(text):
        spans.take(match.group(), match.group(1))
    return tuple(_piece(text, weight, param) for text, weight in spans.merged())


def _piece(text: str, weight: float, param: str) -> Piece:
    if not math.isfinite(weight):
        raise InvalidValue.of(param, "a weight in the prompt is too large")
    return Break() if text == "BREAK" and weight == BREAK_WEIGHT else Span(text, weight)


class _Spans:
    """Segments so far with their weights, and where the open brackets began."""

    def __init__(self, param: str) -> None:
        self._param = param
        self._texts: list[str] = []
        self._weights: list[float] = []
        self._round: list[int] = []
        self._square: list[int] = []

    def take(self, token: str, number: str | None) -> None:
        """Take the next token; `number` is set for `:number)`."""
        if token.startswith("\\"):
            self._add(token[1:])
        elif token == "(":
            self._open(self._round)
        elif token == "[":
            self._open(self._square)
        elif number is not None and self._round:
            self._close_weighted(token, number)
        elif token == ")" and self._round:
            self._multiply(self._round.pop(), ROUND)
        elif token == "]" and self._square:
            self._multiply(self._square.pop(), SQUARE)
        else:
            self._add_words(token)

    def merged(self) -> list[tuple[str, float]]:
        """Close what is open and return the segments, neighbours of equal weight joined."""
        for start in self._round:
            self._multiply(start, ROUND)
        for start in self._square:
            self._multiply(start, SQUARE)
        runs: list[tuple[list[str], float]] = []
        for text, weight in zip(self._texts, self._weights, strict=True):
            if runs and runs[-1][1] == weight:
                runs[-1][0].append(text)
            else:
                runs.append(([text], weight))
        return [("".join(texts), weight) for texts, weight in runs] or [("", 1.0)]

    def _open(self, stack: list[int]) -> None:
        if len(stack) >= DEPTH:
            raise too_deep(self._param)
        stack.append(len(self._texts))

    def _close_weighted(self, token: str, number: str) -> None:
        try:
            weight = float(number)
        except ValueError:  # `1.2.3`: the original fails here; it is text and a bracket
            self._add_words(token[:-1])
            weight = ROUND
        self._multiply(self._round.pop(), weight)

    def _multiply(self, start: int, weight: float) -> None:
        for index in range(start, len(self._weights)):
            self._weights[index] *= weight

    def _add(self, text: str, weight: float = 1.0) -> None:
        self._texts.append(text)
        self._weights.append(weight)

    def _add_words(self, text: str) -> None:
        start = 0
        for match in _BREAK.finditer(text):
            self._add(_cut(text[start : match.start()], left=start > 0, right=True))
            self._add("BREAK", BREAK_WEIGHT)
            start = match.end()
        self._add(_cut(text[start:], left=start > 0, right=False))


def _cut(text: str, *, left: bool, right: bool) -> str:
    text = text.lstrip() if left else text
    return text.rstrip() if right else text
