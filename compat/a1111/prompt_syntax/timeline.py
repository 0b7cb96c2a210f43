r"""Level 2 of a prompt: texts that change while the picture is made.

`[from:to:when]`, `[to:when]`, `[from::when]` switch, `[a|b|c]` takes turns; both nest. `when` with a decimal point is a
share of the model calls, without one a call's number. A backslash takes the meaning from the next character.

The original describes this with an ambiguous grammar and an Earley parser. The same readings come from one pass with a
stack, since every bracket that is part of a construct must be balanced inside:

- A closing bracket that fits the newest open one makes a construct if its inside allows it: `(x)` and `(x:y)`,
  `[x]`, `[x|y]`, and `[x:n]` or `[x:y:n]` with a number `n`.
- Otherwise that bracket and all that are open around it are plain characters, and so is one that is never closed.
- A `|` outside of `[x|y]`, and a backslash at the end or before a line break, make the whole text literal.

| written, 20 calls | texts |
|---|---|
| `[a:b:0.5]` | 10 `a`, 20 `b` |
| `[a:b:30]` | 20 `a` |
| `[a|b|]` | 1 `a`, 2 `b`, 3 ``, 4 `a`, ... |
| `[a:[b:c:0.8]:0.5]` | 10 `a`, 16 `b`, 20 `c` |
| `[a:b:]`, `a [b`, `[a|b:0.5]` | 20 as written |
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from compat.a1111.prompt_syntax.limits import DEPTH, SCHEDULED, VISITS, too_deep
from server.core.errors import InvalidValue

_TOKEN = re.compile(r"[\[\]():|]|(?:[^\\\[\]():|]|\\.)+|\\")
_NUMBER = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*", re.ASCII)


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """How many model calls a pass makes, and where its prompts begin to count.

    `calls` is the number of steps, doubled for samplers that evaluate the model twice a step. `base_calls` is that of
    the first pass when this is the second, else None: then 0 ... 1 and the first pass's call numbers are over, and
    1 ... 2 is this pass. `old_rule` is the reading before version 1.6: below 1 a share, else a call's number.
    """

    calls: int
    base_calls: int | None = None
    old_rule: bool = False

    @property
    def last(self) -> int:
        """Return the last call of the pass; the old rule counts the first pass's even in the second."""
        return self.base_calls if self.old_rule and self.base_calls is not None else self.calls

    def switch(self, number: str) -> int:
        """Return after which call a `when` switches; 0 and less: before the first."""
        value = float(number)
        if self.old_rule:
            value = value * self.last if value < 1 else value
        elif "." in number:
            value = (value - (0.0 if self.base_calls is None else 1.0)) * self.calls
        else:
            value -= self.base_calls or 0
        return int(max(-1.0, min(float(self.last), value)))


@dataclass(frozen=True)
class Group:
    """Brackets that this level keeps for the next."""

    inside: "Nodes"


@dataclass(frozen=True)
class Switch:
    """`before` up to a call, `after` from then on."""

    before: "Nodes"
    after: "Nodes"
    when: str


@dataclass(frozen=True)
class Turns:
    """One alternative per call, round and round."""

    choices: "list[Nodes]"


Nodes = list[str | Group | Switch | Turns]


@dataclass
class _Frame:
    """An open bracket and what has followed it: the nodes between its separators."""

    opener: str
    fields: list[Nodes] = field(default_factory=lambda: [[]])
    marks: str = ""

    def literal(self) -> Nodes:
        """Return the frame's content with bracket and separators as characters."""
        nodes: Nodes = [self.opener, *self.fields[0]]
        for mark, nodes_after in zip(self.marks, self.fields[1:], strict=True):
            nodes += [mark, *nodes_after]
        return nodes


class _Literal(Exception):
    """The text does not follow the grammar: take it as it stands."""


def texts_of(prompt: str, timing: Timing, param: str) -> list[tuple[int, str]]:
    """Return the schedule of one part: (last call, text) in rising order, at least one.

    Raises:
        InvalidValue: brackets nested too deep, or a schedule too large to be meant.
    """
    try:
        nodes, count = _parse(prompt, param)
    except _Literal:
        return [(timing.last, prompt)]
    ends = sorted(_ends(nodes, timing))
    if count * len(ends) > VISITS:
        raise _too_large(param)
    texts: list[tuple[int, str]] = []
    seen: set[str] = set()
    total = 0
    for end in ends:
        text = "".join(_at(nodes, end, timing))
        if text not in seen:
            seen.add(text)
            total += len(text)
        if total > max(SCHEDULED, len(prompt)):
            raise _too_large(param)
        texts.append((end, text))
    return texts


def _too_large(param: str) -> InvalidValue:
    return InvalidValue.of(param, "the prompt changes too often for its length")


def _parse(prompt: str, param: str) -> tuple[Nodes, int]:
    top: Nodes = []
    frames: list[_Frame] = []
    count = 0
    for match in _TOKEN.finditer(prompt):
        token = match.group()
        count += 1
        if token == "\\":
            raise _Literal
        if token in ("(", "["):
            if len(frames) >= DEPTH:
                raise too_deep(param)
            frames.append(_Frame(token))
        elif token in (")", "]"):
            _close(token, frames, top)
        elif token in (":", "|"):
            _separate(token, frames, top)
        else:
            (frames[-1].fields[-1] if frames else top).append(token)
    _spill(frames, top)
    return top, count


def _separate(token: str, frames: list[_Frame], top: Nodes) -> None:
    if not frames:
        if token == "|":
            raise _Literal
        top.append(token)
        return
    frames[-1].marks += token
    frames[-1].fields.append([])


def _close(token: str, frames: list[_Frame], top: Nodes) -> None:
    frame = frames[-1] if frames else None
    built = None if frame is None else _built(frame, token)
    if built is None:
        _spill(frames, top)
        top.append(token)
        return
    frames.pop()
    (frames[-1].fields[-1] if frames else top).append(built)


def _built(frame: _Frame, closer: str) -> Group | Switch | Turns | None:
    """Return the construct that a bracket closes, None when it closes none."""
    if frame.opener == "(":
        if closer != ")" or frame.marks not in ("", ":"):
            return None
        return Group([*frame.literal(), ")"])
    if closer != "]":
        return None
    if not frame.marks:
        return Group(["[", *frame.fields[0], "]"])
    if ":" not in frame.marks:
        return Turns(frame.fields)
    if frame.marks not in (":", "::"):
        return None
    number = _number(frame.fields[-1])
    if number is None:
        return None
    before = frame.fields[0] if len(frame.fields) == 3 else []
    return Switch(before, frame.fields[-2], number)


def _number(nodes: Nodes) -> str | None:
    match = _NUMBER.fullmatch(nodes[0]) if len(nodes) == 1 and isinstance(nodes[0], str) else None
    return None if match is None else match.group(1)


def _spill(frames: list[_Frame], top: Nodes) -> None:
    """Turn all open brackets into characters; a `|` among them has no meaning anywhere."""
    for frame in frames:
        if "|" in frame.marks:
            raise _Literal
        top += frame.literal()
    frames.clear()


def _ends(nodes: Nodes, timing: Timing) -> set[int]:
    """Return the calls after which the text may change, the last of all among them."""
    ends = {timing.last}
    for node in _walk(nodes):
        if isinstance(node, Switch):
            ends.add(timing.switch(node.when))
    if any(isinstance(node, Turns) for node in _walk(nodes)):
        ends.update(range(1, timing.last + 1))
    return {end for end in ends if end >= 1 or end == timing.last}


def _walk(nodes: Nodes) -> Iterator[str | Group | Switch | Turns]:
    for node in nodes:
        yield node
        match node:
            case Group():
                yield from _walk(node.inside)
            case Switch():
                yield from _walk(node.before)
                yield from _walk(node.after)
            case Turns():
                for choice in node.choices:
                    yield from _walk(choice)
            case str():
                pass


def _at(nodes: Nodes, call: int, timing: Timing) -> Iterator[str]:
    for node in nodes:
        match node:
            case str():
                yield node
            case Group():
                yield from _at(node.inside, call, timing)
            case Switch():
                yield from _at(node.before if call <= timing.switch(node.when) else node.after, call, timing)
            case Turns():
                yield from _at(node.choices[(call - 1) % len(node.choices)], call, timing)
