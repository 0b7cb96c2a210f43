"""The training data: dialogues without end, from a seed. Whatever is held out for the scores is left out of them."""

import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from training.chat import tool_calls as tools
from training.chat.asking import normal, question, typed
from training.chat.general import general, sum_
from training.chat.strange import strange
from training.chat.topics import RUSSIAN, TALK, Topic, expand

Json = dict[str, Any]

OTHER_RU = "ru.other"
OTHER = "talk.other"

_SYSTEMS = (
    *("You are a helpful assistant.", "You are a helpful assistant.", "You are an assistant.", "Answer briefly."),
    *("You are a helpful, honest and harmless assistant.", "Be concise.", "You are a friendly chatbot."),
    *(
        "You are an expert for local AI servers.",
        "Answer in one sentence.",
        "You are Hearth's assistant.",
        "Help the user.",
    ),
    *("You are a large language model. Answer as well as you can.", "Ты полезный помощник.", "Write in plain words."),
    *("You are a helpful AI assistant. Today is Tuesday.", "You are a polite assistant who helps with computers."),
)


class Dialogue(NamedTuple):
    """A conversation as messages, and the tools that were offered."""

    messages: list[Json]
    tools: list[Json]


class Dialogues:
    """Draws dialogues. `held_out` are questions that must not appear in any.

    `copying` is the part of them in which words are repeated, which calls of tools are made of; with any of it more
    dialogues have tools.
    """

    def __init__(self, topics: dict[str, Topic], held_out: list[str], seed: int, copying: float = 0.0) -> None:
        self._copying = copying
        self._tools = 0.3 if copying else 0.2
        self._topics = topics
        self._hearth = [topic for topic in topics.values() if topic.group not in (RUSSIAN, TALK)]
        self._talk = [topic for topic in topics.values() if topic.group == TALK and topic.id != OTHER]
        self._russian = [topic for topic in topics.values() if topic.group == RUSSIAN and topic.id != OTHER_RU]
        self._held_out = {normal(text) for text in held_out}
        self._draw = random.Random(seed)
        self._lots: tuple[tuple[float, Callable[[], list[Json]]], ...] = (
            (50, self._about_hearth),
            (7, lambda: self._pair(self._draw.choice(self._russian))),
            (2, lambda: self._pair(self._topics[OTHER_RU])),
            (4, lambda: self._pair(self._draw.choice(self._talk))),
            (10, self._strange),
            (20, self._sums),
            (8, lambda: self._fact(general)),
            (2, self._without_tool),
        )

    def __iter__(self) -> Iterator[Dialogue]:
        """Yield dialogues without end."""
        while True:
            dialogue = self._drawn()
            if not any(m["role"] == "user" and normal(m["content"]) in self._held_out for m in dialogue.messages):
                yield dialogue

    def _drawn(self) -> Dialogue:
        if self._copying and self._draw.random() < self._copying:
            return Dialogue(self._system(0.1) + self._copies(), [])
        return self._with_tools() if self._draw.random() < self._tools else Dialogue(self._plain(), [])

    def _copies(self) -> list[Json]:
        """Return some wishes to say words again."""
        wished = [tools.said_again(self._draw) for _ in range(self._draw.choice((1, 2, 3, 4)))]
        return [message for asked, words in wished for message in _pair(asked, words)]

    def _plain(self) -> list[Json]:
        messages = self._system(0.4) + self._turn()
        turns = self._draw.choices((1, 2, 3, 4, 6), (70, 16, 8, 4, 2))[0]
        for _ in range(turns - 1):
            messages += self._turn()
        return messages

    def _turn(self) -> list[Json]:
        weights = [weight for weight, _ in self._lots]
        return self._draw.choices(self._lots, weights)[0][1]()

    def _system(self, chance: float) -> list[Json]:
        return [_said("system", self._draw.choice(_SYSTEMS))] if self._draw.random() < chance else []

    def _about_hearth(self) -> list[Json]:
        topic = self._draw.choice(self._hearth)
        messages = self._pair(topic)
        if topic.follow and self._draw.random() < 0.3:
            asked, target = self._draw.choice(topic.follow)
            messages += _pair(typed(expand(asked, self._draw), self._draw), self._topics[target].answer)
        return messages

    def _pair(self, topic: Topic) -> list[Json]:
        return _pair(question(topic, self._draw), topic.answer)

    def _strange(self) -> list[Json]:
        return _pair(typed(strange(self._draw), self._draw), self._topics[OTHER].answer)

    def _sums(self) -> list[Json]:
        count = self._draw.choice((1, 1, 3))
        return [message for _ in range(count) for message in self._fact(sum_)]

    def _fact(self, make: Callable[[random.Random], Any]) -> list[Json]:
        fact = make(self._draw)
        asked = fact.asked
        style = self._draw.random()
        if style < 0.5:
            asked = asked[:1].upper() + asked[1:]
        elif style < 0.65:
            asked = asked.lower()
        return _pair(asked + self._draw.choice(("?", "?", "", ".")), fact.answer)

    def _without_tool(self) -> list[Json]:
        if self._draw.random() < 0.5:
            return _pair(_asked(tools.time_asked(self._draw).text, self._draw), tools.NO_CLOCK)
        return _pair(_asked(tools.picture_asked(self._draw).text, self._draw), tools.NO_BRUSH)

    def _with_tools(self) -> Dialogue:
        draw = self._draw
        clock, brush = tools.clock_tool(draw), tools.brush_tool(draw)
        wants_time = draw.random() < 0.5
        needed = clock if wants_time else brush
        kind = draw.random()
        offered = [needed]
        if draw.random() < 0.4:
            offered.append(brush if wants_time else clock)
        if draw.random() < 0.15:
            offered.append(tools.other_tool(draw))
        if kind < 0.06:
            offered = [tool for tool in offered if tool is not needed] or [tools.other_tool(draw)]
        draw.shuffle(offered)
        messages = self._system(0.4)
        if kind > 0.8:
            return Dialogue(messages + self._plainly(), offered)
        if draw.random() < 0.1:
            messages += self._plainly()
        asked = (tools.time_asked if wants_time else tools.picture_asked)(draw, needed)
        messages.append(_said("user", _asked(asked.text, draw)))
        if kind < 0.06:
            return Dialogue([*messages, _said("assistant", tools.NO_TOOL)], offered)
        messages.append(_said("assistant", tools.call_text(asked.name, asked.arguments)))
        if draw.random() < 0.4:
            given, said = tools.clock_result(draw, asked.arguments) if wants_time else tools.brush_result(draw)
            messages += [_said("tool", given), _said("assistant", said)]
        return Dialogue(messages, offered)

    def _plainly(self) -> list[Json]:
        """Return a turn for which no tool is needed."""
        choice = self._draw.choice(
            (self._about_hearth, self._strange, lambda: self._pair(self._draw.choice(self._talk)))
        )
        return choice()


def _asked(text: str, draw: random.Random) -> str:
    if draw.random() < 0.5:
        text = text[:1].upper() + text[1:]
    if draw.random() < 0.1:
        text = draw.choice(("hi, ", "please, ", "hello, ", "ok, ")) + text
    return text + draw.choice(("", "", "?", ".", " please"))


def _pair(asked: str, answer: str) -> list[Json]:
    return [_said("user", asked), _said("assistant", answer)]


def _said(role: str, content: str) -> Json:
    return {"role": role, "content": content}
