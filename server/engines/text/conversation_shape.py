"""In which shape a chat template takes calls of tools, and what to do when it takes none.

Templates disagree: arguments as a value or as JSON text, empty content as "" or none, ids of nine characters. Which
shape a template shows in full is found out once, by rendering a small conversation with a call in it. Where no shape
does, calls and their results become plain text; where a template has no place for descriptions of tools, they become a
system message.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Literal, NamedTuple

from server.core.errors import InvalidValue
from server.engines.text.chat_template import ChatTemplate, Json
from server.engines.text.tool_formats.base import ToolFormat

_TOOL, _KEY, _VALUE, _RESULT = "needle_tool", "needle_key", "needle_value", "needle_result"
_SHORT_ID = 9


class Shape(NamedTuple):
    """How calls in a conversation are put before a template. `plain` turns them into text.

    `ids` are left as they are, cut to nine letters and figures, or made of the function's name and the call's number.
    """

    arguments_as_text: bool = False
    empty_as_none: bool = True
    ids: Literal["own", "short", "named"] = "own"
    plain: bool = False


class ConversationShaper:
    """Shapes messages and tools for one template."""

    def __init__(self, template: ChatTemplate, form: ToolFormat) -> None:
        self._template = template
        self._form = form
        self._found: Shape | None = None

    def shaped(self, messages: list[Json], tools: list[Json]) -> tuple[list[Json], list[Json]]:
        """Return messages and tools as the template takes them.

        Args:
            messages: as templates usually want them; the arguments of calls are values, or text that is no JSON.
            tools: descriptions of functions; they move into a system message if the template would not show them.
        """
        if any(message.get("tool_calls") or message["role"] == "tool" for message in messages):
            shape = self._shape()
            messages = _all_shaped(messages, shape)
            if shape.plain:
                messages = joined_turns([_as_text(message) for message in messages])
        if tools and not self._template.knows_tools:
            return with_system(messages, described(tools, self._form)), []
        return messages, tools

    def _shape(self) -> Shape:
        if self._found is None:
            self._found = next(filter(self._shows, _shapes()), Shape(plain=True))
        return self._found

    def _shows(self, shape: Shape) -> bool:
        messages = _all_shaped(_probe(), shape)
        parameters = {"type": "object", "properties": {"x": {"type": "string", "description": "x"}}, "required": ["x"]}
        tool = {"type": "function", "function": {"name": _TOOL, "description": "x", "parameters": parameters}}
        try:
            rendered = self._template.render(messages, tools=[tool])
        except InvalidValue:
            return False
        # A tool's own description shows its name too, so the name alone says nothing.
        if rendered.count(_TOOL) < (2 if self._template.knows_tools else 1):
            return False
        doubly_written = f'\\"{_KEY}' in rendered or f"{{'{_KEY}" in rendered
        return not doubly_written and all(needle in rendered for needle in (_KEY, _VALUE, _RESULT))


def described(tools: Sequence[Json], form: ToolFormat) -> str:
    """Return the words that tell a model of tools and how to call them."""
    lines = [json.dumps(tool["function"], ensure_ascii=False) for tool in tools]
    return "\n".join(
        [
            "You can call functions. Here are their descriptions, one in a line, with JSON schemas of the parameters:",
            *lines,
            "",
            "To call one, answer with nothing but this, with the name and the arguments that you need:",
            form.example,
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


def _probe() -> list[Json]:
    call = {"id": "call_needle012", "type": "function", "function": {"name": _TOOL, "arguments": {_KEY: _VALUE}}}
    return [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": _RESULT, "name": _TOOL, "tool_call_id": "call_needle012"},
    ]


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
        if not made["content"] and shape.empty_as_none and not shape.plain:
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
    elif not shape.arguments_as_text and not isinstance(arguments, dict):
        # Templates go through arguments as a mapping; what is none (a model's slip) is shown under a name.
        arguments = {"arguments": arguments}
    return {**function, "arguments": arguments}


def _short(name: str) -> str:
    """Return nine letters or figures for an id, the same for the same."""
    return re.sub(r"[^0-9A-Za-z]", "", name)[-_SHORT_ID:].rjust(_SHORT_ID, "0")


def _as_text(message: Json) -> Json:
    if message["role"] == "tool":
        name = message.get("name") or message.get("tool_call_id") or "the function"
        return {"role": "user", "content": f"Result of {name}:\n{message['content']}"}
    calls = [
        json.dumps({"name": call["function"]["name"], "arguments": call["function"]["arguments"]}, ensure_ascii=False)
        for call in message.get("tool_calls") or ()
    ]
    kept = {key: value for key, value in message.items() if key != "tool_calls"}
    return {**kept, "content": "\n".join(filter(None, [message["content"] or "", *calls]))}
