"""What is held out of the training: questions in `held_out.txt`, wishes for tools in `held_out_tools.txt`."""

from collections.abc import Iterator
from pathlib import Path

import msgspec

FOLDER = Path(__file__).parent


class HeldOut(msgspec.Struct, frozen=True):
    """A question, and the topic that answers it or the words that its answer must hold."""

    text: str
    topic: str = ""
    must: tuple[str, ...] = ()


class HeldOutCall(msgspec.Struct, frozen=True):
    """A question that a tool answers, the tool's name and what its one argument must be; empty = no argument."""

    text: str
    name: str
    argument: str


def held_out() -> list[HeldOut]:
    """Return the questions: `topic | question`, or `= words; that count | question` where no topic answers."""
    found = []
    for head, text in _lines("held_out.txt"):
        if head.startswith("="):
            found.append(HeldOut(text, must=tuple(word.strip() for word in head[1:].split(";"))))
        else:
            found.append(HeldOut(text, topic=head))
    return found


def held_out_calls() -> list[HeldOutCall]:
    """Return the wishes for tools: `name; argument | question`."""
    found = []
    for head, text in _lines("held_out_tools.txt"):
        name, argument = (part.strip() for part in head.split(";", 1))
        found.append(HeldOutCall(text, name, argument))
    return found


def held_out_texts() -> list[str]:
    """Return what must not stand in the training data."""
    return [item.text for item in (*held_out(), *held_out_calls())]


def _lines(name: str) -> Iterator[tuple[str, str]]:
    for line in (FOLDER / name).read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            head, text = line.split(" | ", 1)
            yield head.strip(), text.strip()
