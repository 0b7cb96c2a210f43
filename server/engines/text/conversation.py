"""A chat request -> the token ids of its prompt: contents as the template wants them, control tokens kept apart."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from server.core.errors import InvalidValue
from server.core.text import ChatRequest, Message, TextPart, Tool, ToolCall
from server.engines.text.chat_template import ChatTemplate, Json
from server.engines.text.constraint_limits import check_json_depth
from server.engines.text.constraints import Constraints
from server.engines.text.control_text import ControlText, Stretch, map_texts, texts_in
from server.engines.text.conversation_shape import ConversationShaper
from server.engines.text.fallback_templates import Fallback, choose
from server.engines.text.pictures import Runs
from server.engines.text.placed_pictures import check_pictures, content_of, pictures_in, with_pictures
from server.engines.text.prefix import Tokens
from server.engines.text.reasoning import opens_thoughts
from server.engines.text.reply_plan import ReplyPlanner
from server.engines.text.sight import Sight
from server.engines.text.vocabulary import Vocabulary

_ROLES = frozenset({"system", "user", "assistant", "tool"})


class Rendered(NamedTuple):
    """A conversation as a prompt: its ids [n], whether it ends within thoughts of the assistant, where pictures are."""

    tokens: Tokens
    opened: bool
    pictures: Runs = ()


class ConversationPrompts:
    """Makes prompts of conversations for one model.

    `stops` end a reply besides the model's end token; only a model without a template and turn tokens has any. `sight`
    is how the model sees, None when it does not; `fallback` is used when there is no `template`, None = by the
    vocabulary.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        template: str | None,
        context: int,
        sight: Sight | None = None,
        fallback: Fallback | None = None,
    ) -> None:
        self.constraints = Constraints(vocabulary)
        self.planner = ReplyPlanner(template or "", self.constraints, vocabulary.control_ids)
        if template is not None:
            fallback = Fallback(template)
        elif fallback is None:
            fallback = choose(vocabulary.control)
        self.stops = fallback.stops
        self._vocabulary = vocabulary
        self._context = context
        self._sight = sight
        self._control = ControlText(vocabulary.control)
        self._template = ChatTemplate(
            fallback.source, bos=vocabulary.text(vocabulary.bos), eos=vocabulary.text(vocabulary.eos)
        )
        self._shaper = ConversationShaper(self._template, self.planner.form)

    def tokens(self, request: ChatRequest) -> Tokens:
        """Return the prompt's ids [n]; raises as `prompt`."""
        return self.prompt(request).tokens

    def prompt(self, request: ChatRequest) -> Rendered:
        """Return the prompt of a conversation. Reads pictures that were not seen before, which may take seconds.

        Raises:
            InvalidValue: no messages, an unknown role, too many pictures, or the template refuses them.
            Unsupported: pictures, and the model does not see.
            BadImage: a picture cannot be read.
            ContextTooLong: it is hopelessly too long; whether the ids fit is for the caller to check.
        """
        self.check(request)
        parts = pictures_in(request)
        signs = self._control.choose_marks(_texts_of(request), len(parts)) if parts else []
        stretches = self._stretches(request, signs)
        opened = bool(stretches) and opens_thoughts(stretches[-1].text, self.planner.thoughts)
        if self._sight is None or not parts:
            found = [
                self._vocabulary.tokenise(part.text, special=part.special, room=self._context) for part in stretches
            ]
            return Rendered(
                self._vocabulary.with_bos(np.concatenate(found) if found else np.empty(0, np.int32)), opened
            )
        pictures = dict(zip(signs, map(self._sight.look, parts), strict=True))
        tokens, runs = self._sight.tokens(with_pictures(stretches, pictures), self._context)
        return Rendered(tokens, opened, runs)

    def check(self, request: ChatRequest) -> None:
        """Raise for what can be told before pictures are read, see `prompt`."""
        _check(request)
        check_pictures(pictures_in(request), sees=self._sight is not None)

    def _stretches(self, request: ChatRequest, signs: Sequence[str]) -> list[Stretch]:
        # Clients offer their tools to any model (Open WebUI 28 of them), whether its template knows tools or not.
        left = iter(signs)
        messages, tools = self._shaper.shaped(
            [_message(message, left) for message in request.messages],
            [_tool(tool) for tool in request.tools if request.tool_choice != "none"],
        )
        options = dict(request.template_options)
        mark = self._control.choose_mark(texts_in([messages, tools, options]))

        def keep_text(text: str) -> str:
            return self._control.mark(text, mark)

        messages = [
            {key: value if key == "role" else map_texts(value, keep_text) for key, value in message.items()}
            for message in messages
        ]
        tools, options = map_texts(tools, keep_text), map_texts(options, keep_text)
        if not request.continue_final:
            return self._control.split(self._template.render(messages, tools=tools, options=options), mark)
        rendered = self._template.render(messages, tools=tools, options=options, open_turn=False)
        return self._control.split(_cut_after(rendered, messages[-1]["content"]), mark)


def _check(request: ChatRequest) -> None:
    if not request.messages:
        raise InvalidValue.of("messages", "a conversation needs at least one message")
    for message in request.messages:
        if message.role not in _ROLES:
            raise InvalidValue.of("messages", f"role {message.role!r} is not one of {', '.join(sorted(_ROLES))}")
    if request.continue_final and request.messages[-1].role != "assistant":
        raise InvalidValue.of("messages", "only a last message of the assistant can be continued")


def _cut_after(rendered: str, content: str) -> str:
    """Return the prompt up to the end of the last message's content, which templates may have stripped."""
    for text in (content, content.rstrip(), content.strip()):
        found = rendered.rfind(text) if text else -1
        if found >= 0:
            return rendered[: found + len(text)]
    raise InvalidValue.of("messages", "the chat template does not show the last message, so it cannot be continued")


def _message(message: Message, signs: Iterator[str]) -> Json:
    made: Json = {"role": message.role, "content": content_of(message.parts, signs)}
    if message.name is not None:
        made["name"] = message.name
    if message.tool_call_id is not None:
        made["tool_call_id"] = message.tool_call_id
    if message.reasoning is not None:
        made["reasoning_content"] = message.reasoning
    if message.tool_calls:
        made["tool_calls"] = [_tool_call(call) for call in message.tool_calls]
    return made


def _texts_of(request: ChatRequest) -> Iterator[str]:
    for message in request.messages:
        yield from (part.text for part in message.parts if isinstance(part, TextPart))


def _tool_call(call: ToolCall) -> Json:
    function = {"name": call.name, "arguments": _parsed(call.arguments)}
    return {"id": call.id, "type": "function", "function": function}


def _tool(tool: Tool) -> Json:
    check_json_depth(tool.parameters, "tools")
    try:
        parameters = json.loads(tool.parameters)
    except ValueError as error:
        raise InvalidValue.of("tools", f"the parameters of tool {tool.name!r} are not JSON: {error}") from None
    function = {"name": tool.name, "description": tool.description, "parameters": parameters}
    return {"type": "function", "function": function}


def _parsed(arguments: str) -> Any:
    """Return the arguments as a value, as templates expect them; text that is no JSON, or too deep, stays text."""
    try:
        check_json_depth(arguments, "messages")
        return json.loads(arguments)
    except (ValueError, InvalidValue):
        return arguments
