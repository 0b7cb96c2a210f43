"""In which shape a chat template takes calls of tools, and what to do when it takes none.

Templates disagree: arguments as a value or as JSON text, empty content as "" or none, ids of nine characters. Which
shape a template shows in full is found out once, by rendering a small conversation with a call in it, and then over
how many turns calls must be spread (`conversation_turns`). Where no shape does, calls become text, written as the model
writes them, and so do their results unless the template knows these; where a template has no place for descriptions of
tools, they become a system message.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, product
from typing import Any, Literal, NamedTuple

from server.core.errors import InvalidValue
from server.engines.text.chat_template import ChatTemplate, Json
from server.engines.text.conversation_turns import SPREADS, Spread, spread
from server.engines.text.tool_formats.base import Call, ToolFormat
from server.engines.text.tool_formats.generic import GENERIC

_THOUGHTS = ("reasoning_content", "reasoning", "thinking")
_TOOL, _KEY, _VALUE, _RESULT, _ID = "needle_tool", "needle_key", "needle_value", "needle_result", "call_needle01"
_SHORT_ID = 9


class Shape(NamedTuple):
    """How calls in a conversation are put before a template. `plain` turns them into text, or their results too.

    `ids` are left as they are, cut to nine letters and figures, or made of the function's name and the call's number.
    """

    arguments_as_text: bool = False
    empty_as_none: bool = True
    ids: Literal["own", "short", "named"] = "own"
    plain: Literal["nothing", "calls", "all"] = "nothing"
    spread: Spread = Spread()


class ConversationShaper:
    """Shapes messages and tools for one template."""

    def __init__(self, template: ChatTemplate, form: ToolFormat) -> None:
        self._template = template
        self._form = form
        self._found: Shape | None = None
        self._thoughts = next(filter(template.reads, _THOUGHTS), _THOUGHTS[0])

    def shaped(self, messages: list[Json], tools: list[Json]) -> tuple[list[Json], list[Json]]:
        """Return messages and tools as the template takes them.

        Args:
            messages: as templates usually want them; the arguments of calls are values, or text that is no JSON.
            tools: descriptions of functions; they move into a system message if the template would not show them.
        """
        if any(message.get("tool_calls") or message["role"] == "tool" for message in messages):
            shape = self.shape
            messages = self._in_shape(messages, shape)
        messages = [_renamed(message, "reasoning_content", self._thoughts) for message in messages]
        if tools and not self._template.knows_tools:
            return with_system(messages, described(tools, self._form)), []
        return messages, tools

    @property
    def shape(self) -> Shape:
        """Return the shape that the template takes, which is found out once."""
        if self._found is None:
            shapes = _shapes()
            if self._form is not GENERIC:
                shapes = chain(shapes, [Shape(plain="calls")])
            found = next((shape for shape in shapes if self._shows(shape, _probe())), Shape(plain="all"))
            if found.plain == "nothing":
                spread_out = (found._replace(spread=how) for how in SPREADS)
                found = next((shape for shape in spread_out if self._shows(shape, _busy_probe())), found)
            self._found = found
        return self._found

    def _in_shape(self, messages: Sequence[Json], shape: Shape) -> list[Json]:
        made = _all_shaped(spread(messages, shape.spread), shape)
        made = [_with_text(message, self._form, shape) for message in made]
        return joined_turns(made) if shape.plain == "all" else made

    def _shows(self, shape: Shape, conversation: Sequence[Json]) -> bool:
        """Tell whether the template shows all calls and results of a conversation of needles."""
        messages = [
            _renamed(message, "reasoning_content", self._thoughts) for message in self._in_shape(conversation, shape)
        ]
        parameters = {"type": "object", "properties": {"x": {"type": "string", "description": "x"}}, "required": ["x"]}
        tool = {"type": "function", "function": {"name": _TOOL, "description": "x", "parameters": parameters}}
        try:
            rendered = self._template.render(messages, tools=[tool])
            before = self._template.render(messages[:1], tools=[tool])
        except InvalidValue:
            return False
        if rendered.count("None") > before.count("None"):  # content that is none, written out
            return False
        # A tool's own description shows its name too, so the name alone says nothing.
        results = [message["content"] for message in conversation if message["role"] == "tool"]
        if rendered.count(_TOOL) < len(results) + self._template.knows_tools:
            return False
        doubly_written = f'\\"{_KEY}' in rendered or f"{{'{_KEY}" in rendered
        values = [f"{_VALUE}{number}" for number in range(len(results))]
        return not doubly_written and all(needle in rendered for needle in (_KEY, *values, *results))


def described(tools: Sequence[Json], form: ToolFormat) -> str:
    """Return the words that tell a model of tools and how to call them."""
    lines = [json.dumps(tool["function"], ensure_ascii=False) for tool in tools]
    return "\n".join(
        [
            "You can call functions. Here are their descriptions, one in a line, with JSON schemas of the parameters:",
            *lines,
            "",
            "To call one, answer with nothing but this, with the name and the arguments that you need:",
            form.written([Call("name", {"argument": "value"})]),
            "You are then told the result. If no function is of use, answer the user in plain words.",
        ]
    )


def with_system(messages: list[Json], text: str) -> list[Json]:
    """Return the conversation with more in its system message, or with one of its own."""
    if messages and messages[0]["role"] == "system":
        first = messages[0]
        content = f"{first['content']}\n\n{text}" if first["content"] else text
        return [{**first, "content": content}, *messages[1:]]
    return [{"role": "system", "content": text}, *messages]


def joined_turns(messages: list[Json]) -> list[Json]:
    """Return the conversation with neighbours of one role joined: many templates insist on turns."""
    out: list[Json] = []
    for message in messages:
        if out and out[-1]["role"] == message["role"]:
            out[-1] = {**out[-1], "content": f"{out[-1]['content']}\n\n{message['content']}"}
        else:
            out.append(message)
    return out


def _shapes() -> Iterator[Shape]:
    styles: tuple[Literal["own", "short", "named"], ...] = ("own", "short", "named")
    for ids, as_text, as_none in product(styles, (False, True), (True, False)):
        yield Shape(arguments_as_text=as_text, empty_as_none=as_none, ids=ids)


def _probe(calls: int = 1, **said: str) -> list[Json]:
    return [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": "", "tool_calls": [_needle(number) for number in range(calls)], **said},
        *(
            {"role": "tool", "content": f"{_RESULT}{number}", "name": _TOOL, "tool_call_id": f"{_ID}{number}"}
            for number in range(calls)
        ),
    ]


def _busy_probe() -> list[Json]:
    """Return a conversation with all that can stand in one message of the assistant."""
    return _probe(calls=2, content="y", reasoning_content="z")


def _needle(number: int) -> Json:
    function = {"name": _TOOL, "arguments": {_KEY: f"{_VALUE}{number}"}}
    return {"id": f"{_ID}{number}", "type": "function", "function": function}


def _all_shaped(messages: Sequence[Json], shape: Shape) -> list[Json]:
    ids: dict[str, str] = {}
    for message in messages:
        for call in message.get("tool_calls") or ():
            ids[call["id"]] = _id(call, len(ids), shape)
    return [_shaped(message, shape, ids) for message in messages]


def _shaped(message: Json, shape: Shape, ids: Mapping[str, str]) -> Json:
    made = dict(message)
    if made.get("tool_call_id") is not None:
        given = made["tool_call_id"]
        made["tool_call_id"] = ids.get(given) or (_short(given) if shape.ids == "short" else given)
    if made.get("tool_calls"):
        if not made["content"] and shape.empty_as_none and shape.plain == "nothing":
            made["content"] = None
        made["tool_calls"] = [
            {**call, "id": ids[call["id"]], "function": _function(call["function"], shape)}
            for call in made["tool_calls"]
        ]
    return made


def _id(call: Json, number: int, shape: Shape) -> str:
    match shape.ids:
        case "short":
            return _short(call["id"])
        case "named":
            return f"functions.{call['function']['name']}:{number}"
    return str(call["id"])


def _function(function: Json, shape: Shape) -> Json:
    arguments = function["arguments"]
    if shape.arguments_as_text and not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    elif not shape.arguments_as_text:
        # Templates go through arguments as a mapping; what is none (a model's slip) is shown under a name.
        arguments = _object(arguments)
    return {**function, "arguments": arguments}


def _short(name: str) -> str:
    """Return nine letters or figures for an id, the same for the same."""
    return re.sub(r"[^0-9A-Za-z]", "", name)[-_SHORT_ID:].rjust(_SHORT_ID, "0")


def _with_text(message: Json, form: ToolFormat, shape: Shape) -> Json:
    """Return a message with what a template does not take turned into text."""
    if shape.plain == "all" and message["role"] == "tool":
        name = message.get("name") or message.get("tool_call_id") or "the function"
        return {"role": "user", "content": f"Result of {name}:\n{message['content']}"}
    if shape.plain == "nothing" or not message.get("tool_calls"):
        return message
    calls = [Call(call["function"]["name"], _object(call["function"]["arguments"])) for call in message["tool_calls"]]
    kept = {key: value for key, value in message.items() if key != "tool_calls"}
    return {**kept, "content": "\n".join(filter(None, [message["content"] or "", form.written(calls)]))}


def _object(arguments: object) -> dict[str, Any]:
    return arguments if isinstance(arguments, dict) else {"arguments": arguments}


def _renamed(message: Json, name: str, other: str) -> Json:
    return {other if key == name else key: value for key, value in message.items()}
