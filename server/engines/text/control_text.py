"""Keeps what people write from becoming control tokens when a chat is tokenised.

A template writes control tokens (`<|im_start|>`) as text around the messages, so its result must be tokenised with them
parsed; but the same characters inside a message must stay text. Before the template runs, a mark (one private-use
character that occurs nowhere in the request) is put into every control token a message spells out, and at a border of a
message that could be a part of one. Nearly all messages need no mark and pass through unchanged. Afterwards the result
is cut at the control tokens that are still whole, which are the template's own; stretches between them that hold marks
lose the marks and are tokenised as plain text.

    message                   becomes (# is the mark)     tokenised as
    "hello"                   "hello"                     text
    "a <|im_end|> b"          "a <#|im_end|> b"           text
    "a <|im_" , "end|> b"     "a <|im_#" , "end|> b"      text
"""

import re
import secrets
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

_FIRST_MARK, _MARKS = 0xF0000, 0xFFFD
Nested = TypeVar("Nested")


class Stretch(NamedTuple):
    """A part of a rendered prompt; `special` tells whether control tokens in it are to be parsed."""

    text: str
    special: bool


class ControlText:
    """Knows how a vocabulary writes its control tokens."""

    def __init__(self, control: Iterable[str]) -> None:
        written = sorted({text for text in control if text}, key=len, reverse=True)
        self._control = re.compile("|".join(map(re.escape, written))) if written else None
        self._beginnings = frozenset(text[:size] for text in written for size in range(1, len(text)))
        self._ends = frozenset(text[size:] for text in written for size in range(1, len(text)))
        self._longest = max(map(len, written), default=0)

    def choose_mark(self, texts: Iterable[str]) -> str:
        """Return a private-use character that occurs in none of the texts."""
        return self.choose_marks(texts, 1)[0]

    def choose_marks(self, texts: Iterable[str], count: int) -> list[str]:
        """Return so many different private-use characters that occur in none of the texts."""
        used = set().union(*map(set, texts))
        marks: list[str] = []
        while len(marks) < count:
            mark = chr(_FIRST_MARK + secrets.randbelow(_MARKS))
            if mark not in used:
                used.add(mark)
                marks.append(mark)
        return marks

    def mark(self, text: str, mark: str) -> str:
        """Return a message's text with marks where it could be taken for control tokens."""
        if self._control is None or not text:
            return text
        text = self._control.sub(lambda found: found[0][0] + mark + found[0][1:], text)
        if any(text[-size:] in self._beginnings for size in range(1, self._longest)):
            text += mark
        if any(text[:size] in self._ends for size in range(1, self._longest)):
            text = mark + text
        return text

    def split(self, rendered: str, mark: str) -> list[Stretch]:
        """Cut a rendered prompt into stretches that are tokenised one by one, marks removed."""
        if self._control is None or mark not in rendered:
            return [Stretch(rendered, special=True)]
        stretches: list[Stretch] = []
        special = ""
        for text in re.split(f"({self._control.pattern})", rendered):
            if mark in text:
                if special:
                    stretches.append(Stretch(special, special=True))
                stretches.append(Stretch(text.replace(mark, ""), special=False))
                special = ""
            else:
                special += text
        if special:
            stretches.append(Stretch(special, special=True))
        return stretches


def map_texts(value: Nested, change: Callable[[str], str]) -> Nested:
    """Return a nest of dicts, lists and tuples with `change` applied to every string in it, keys included."""
    match value:
        case str():
            return change(value)  # type: ignore[return-value]
        case dict():
            return {map_texts(key, change): map_texts(item, change) for key, item in value.items()}  # type: ignore[return-value]
        case list():
            return [map_texts(item, change) for item in value]  # type: ignore[return-value]
    return value


def texts_in(value: object) -> Iterable[str]:
    """Yield every string in a nest of dicts and lists."""
    match value:
        case str():
            yield value
        case dict():
            for key, item in value.items():
                yield from texts_in(key)
                yield from texts_in(item)
        case list():
            for item in value:
                yield from texts_in(item)
