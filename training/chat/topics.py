"""Topics: an answer, and the many ways to ask for it. They stand in `topics/*.txt`.

    # a comment
    @ name of the topic
    = the answer, with the placeholders of `facts`
    ! words; that the answer must hold; and by which it is judged   (`a|b`: one of them)
    d what one wants to do | another way to say it      ("how do I ...")
    n what one asks about | another                     ("tell me about ...")
    q a whole question | another
    > a further question after the answer => the topic that answers it

Everywhere in `d`, `n` and `q`, `[one|the other|]` stands for one of several. Topics of `russian.txt` are Russian.
"""

import random
import re
from pathlib import Path

import msgspec

from training.chat.facts import Facts

FOLDER = Path(__file__).parent / "topics"
RUSSIAN = "russian"
TALK = "small_talk"
_GROUP = re.compile(r"\[([^\[\]]*\|[^\[\]]*)\]")


class Topic(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that can be asked. `group` is the file it stands in; `follow` are pairs of question and topic."""

    id: str
    group: str
    answer: str
    must: tuple[str, ...]
    do: tuple[str, ...] = ()
    about: tuple[str, ...] = ()
    ask: tuple[str, ...] = ()
    follow: tuple[tuple[str, str], ...] = ()


def read_topics(facts: Facts, folder: Path = FOLDER) -> dict[str, Topic]:
    """Return all topics by their names, with facts filled in.

    Raises:
        NotAFact: an answer claims what is not so.
        ValueError: an answer lacks a word it must hold, or a further question leads nowhere.
    """
    topics: dict[str, Topic] = {}
    for file in sorted(folder.glob("*.txt")):
        for block in re.split(r"^@ ", file.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
            topic = _topic(block, file.stem, facts)
            if topic.id in topics:
                raise ValueError(f"there are two topics {topic.id!r}")
            topics[topic.id] = topic
    for topic in topics.values():
        for question, target in topic.follow:
            if target not in topics:
                raise ValueError(f"{topic.id}: {question!r} leads to {target!r}, which is no topic")
    return topics


def holds(answer: str, must: tuple[str, ...]) -> bool:
    """Tell whether an answer holds each of the wanted words (`a|b`: one of them)."""
    return all(any(word in answer for word in wanted.split("|")) for wanted in must)


def expand(pattern: str, draw: random.Random) -> str:
    """Return one way to say a pattern."""
    while match := _GROUP.search(pattern):
        chosen = draw.choice(match[1].split("|"))
        pattern = pattern[: match.start()] + chosen + pattern[match.end() :]
    return " ".join(pattern.split())


def alternatives(text: str) -> tuple[str, ...]:
    """Return the patterns of a line: they are parted by bars outside of brackets."""
    found = [""]
    depth = 0
    for character in text:
        depth += (character == "[") - (character == "]")
        if character == "|" and depth == 0:
            found.append("")
        else:
            found[-1] += character
    return tuple(part.strip() for part in found if part.strip())


def _topic(block: str, group: str, facts: Facts) -> Topic:
    name, *lines = [line.strip() for line in block.splitlines() if line.strip() and not line.startswith("# ")]
    said: dict[str, list[str]] = {}
    for line in lines:
        said.setdefault(line[0], []).append(line[1:].strip())
    (answer,) = said["="]
    must = tuple(facts.fill(word.strip()) for line in said["!"] for word in line.split(";"))
    topic = Topic(
        id=name,
        group=group,
        answer=facts.fill(answer),
        must=must,
        do=tuple(way for line in said.get("d", ()) for way in alternatives(line)),
        about=tuple(way for line in said.get("n", ()) for way in alternatives(line)),
        ask=tuple(way for line in said.get("q", ()) for way in alternatives(line)),
        follow=tuple(_follow(line) for line in said.get(">", ())),
    )
    if not holds(topic.answer, must):
        raise ValueError(f"the answer of {name} lacks one of {must}")
    return topic


def _follow(line: str) -> tuple[str, str]:
    question, target = line.split("=>")
    return question.strip(), target.strip()
