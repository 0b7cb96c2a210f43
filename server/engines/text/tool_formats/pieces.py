"""What a parser makes of a reply's text, and the machine that all parsers of calls are built on."""

import json
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol


class Said(NamedTuple):
    """Text of the answer."""

    text: str


class Thought(NamedTuple):
    """Text of the thoughts before the answer."""

    text: str


class CallBegin(NamedTuple):
    """A call of a function starts."""

    name: str


class CallArguments(NamedTuple):
    """More of the JSON text of the arguments of the call that started last."""

    text: str


Piece = Said | Thought | CallBegin | CallArguments


class Parser(Protocol):
    """A machine that is fed with the text of one reply.

    `streams` says whether arguments may be passed on before the call is whole: right only when something else keeps
    them to their schema.
    """

    streams: bool

    @property
    def thinking(self) -> bool:
        """Tell whether what comes next are thoughts."""
        ...

    def feed(self, text: str) -> list[Piece]:
        """Take more text and return what is certain now."""
        ...

    def finish(self) -> list[Piece]:
        """Return what was held back: the text has ended."""
        ...


class Scanner:
    """Base of the parsers of calls: a buffer, the text around calls, and calls that may still turn out to be none.

    White space next to a call belongs to the format, not to the answer: it is held until something else follows.
    `noise` are marks around answers and calls that mean nothing more; they are dropped. A subclass sets `_state` to a
    method that consumes from `_buffer` and returns False when it needs more.
    """

    thinking = False

    def __init__(self, *, streams: bool, noise: Sequence[str] = ()) -> None:
        self.streams = streams
        self._noise = tuple(noise)
        self._state: Callable[[], bool] = self._nothing
        self._buffer = ""
        self._out: list[Piece] = []
        self._raw = ""
        self._held: list[Piece] | None = None
        self._space = ""
        self._called = False
        self._live = False

    def feed(self, text: str) -> list[Piece]:
        """Take more text and return what is certain now."""
        self._buffer += text
        while self._buffer and self._state():
            pass
        return self._taken()

    def finish(self) -> list[Piece]:
        """Return what was held back; an unfinished call that nobody has heard of becomes text."""
        rest, self._buffer = self._buffer, ""
        if self._raw or self._held:
            self._raw += rest
            if self.streams and self._is_certain():
                self._raw = ""  # a grammar holds: this is the beginning of a call that was cut off
            self._give_up()
        elif not self._live:
            self._say(rest)
        if not self._called and self._space:
            self._out.append(Said(self._space))
        self._space = ""
        return self._taken()

    def _is_certain(self) -> bool:
        """Tell whether what was taken can be nothing but a call, provided that a grammar holds."""
        return True

    def _nothing(self) -> bool:
        return False

    def _taken(self) -> list[Piece]:
        out, self._out = self._out, []
        return merged(out)

    def _say(self, text: str) -> None:
        body = text.rstrip()
        if body:
            self._out.append(Said(self._space + text[: len(body)]))
            self._space = ""
        self._space += text[len(body) :]

    def _until(self, marks: Iterable[str]) -> str | None:
        """Say what stands before the first of the marks and return that mark, which stays in the buffer."""
        marks = tuple(marks)
        watched = (*marks, *self._noise)
        while found := first_of(self._buffer, watched):
            at, mark = found
            self._say(self._buffer[:at])
            self._buffer = self._buffer[at:]
            if mark in marks:
                return mark
            self._buffer = self._buffer[len(mark) :]
        keep = held_back(self._buffer, watched)
        self._say(self._buffer[: len(self._buffer) - keep])
        self._buffer = self._buffer[len(self._buffer) - keep :]
        return None

    def _take(self, count: int) -> str:
        """Consume characters that belong to a call; they are remembered until it is certain that it is one."""
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        if not self._live:
            self._raw += taken
        return taken

    def _begin(self, name: str) -> None:
        name = name.encode(errors="replace").decode()  # JSON's escapes can make halves of characters
        if self.streams:
            self._raw = ""
            self._called = self._live = True
            self._space = ""
            self._out.append(CallBegin(name))
        else:
            self._held = [CallBegin(name)]

    def _add(self, arguments: str) -> None:
        if arguments:
            (self._out if self._held is None else self._held).append(CallArguments(arguments))

    def _complete(self) -> bool:
        """End the call; False (and its text is said) when its arguments are no JSON object."""
        held, self._held = self._held, None
        if held is not None:
            if not is_object("".join(piece.text for piece in held if isinstance(piece, CallArguments))):
                self._give_up()
                return False
            self._called = True
            self._space = ""
            self._out += held
        self._raw = ""
        self._live = False
        return True

    def _make(self, calls: Iterable[tuple[str, str]]) -> None:
        """Make whole calls of what was taken, given as names and JSON text; without any it becomes text."""
        made = False
        for name, arguments in calls:
            self._begin(name)
            self._add(arguments)
            made = self._complete() or made
        if not made:
            self._give_up()

    def _give_up(self) -> None:
        """Turn what was taken for a call into text."""
        raw, self._raw, self._held, self._live = self._raw, "", None, False
        self._say(raw)


class JsonEnd:
    """Finds where a JSON object or list ends, in text that arrives in pieces. Other values never end."""

    def __init__(self, depth: int = 0) -> None:
        self._depth = depth
        self._in_string = self._escaped = False

    def scan(self, text: str) -> int | None:
        """Take more text; return how much of it still belongs to the value when it ends there, None otherwise."""
        for index, char in enumerate(text):
            if self._in_string:
                if self._escaped:
                    self._escaped = False
                elif char == "\\":
                    self._escaped = True
                elif char == '"':
                    self._in_string = False
            elif char == '"':
                self._in_string = True
            elif char in "{[":
                self._depth += 1
            elif char in "}]":
                self._depth -= 1
                if self._depth <= 0:
                    return index + 1
        return None


def first_of(text: str, marks: Iterable[str]) -> tuple[int, str] | None:
    """Return where the first of the marks stands and which it is, the longest of several at one place."""
    found = [(text.index(mark), -len(mark), mark) for mark in marks if mark in text]
    if not found:
        return None
    at, _, mark = min(found)
    return at, mark


def held_back(text: str, marks: Iterable[str]) -> int:
    """Return how many characters at the end of a text may be the beginning of a mark."""
    longest = 0
    for mark in marks:
        for size in range(min(len(mark) - 1, len(text)), longest, -1):
            if text.endswith(mark[:size]):
                longest = size
                break
    return longest


def is_object(text: str) -> bool:
    """Tell whether a text is one JSON object."""
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def merged(pieces: list[Piece]) -> list[Piece]:
    """Return the pieces with neighbours of one kind joined."""
    out: list[Piece] = []
    for piece in pieces:
        last = out[-1] if out else None
        match last, piece:
            case (Said(before), Said(more)):
                out[-1] = Said(before + more)
            case (Thought(before), Thought(more)):
                out[-1] = Thought(before + more)
            case (CallArguments(before), CallArguments(more)):
                out[-1] = CallArguments(before + more)
            case _:
                out.append(piece)
    return out
