"""Requests from the wire to the core, and whole answers back. Pure; a stream's events are made in `stream`."""

from collections.abc import AsyncIterable
from typing import Any, Literal

import msgspec

from compat.anthropic import wire
from compat.anthropic.fields import REFUSED
from compat.anthropic.messages import messages_to_core, tools_to_core
from compat.anthropic.stream import MessageEncoder
from server.core.errors import InvalidValue, ProtocolError, Unsupported
from server.core.jobs import Event
from server.core.text import (
    ChatRequest,
    Constraint,
    JsonConstraint,
    Message,
    SamplingParams,
    TextPart,
    Tokenized,
    TokenizeRequest,
)

Choice = Literal["auto", "none", "required", "named"]

_CHOICES: dict[str, Choice] = {"auto": "auto", "any": "required", "tool": "named", "none": "none"}
_EFFORTS = {"low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}


def to_core(request: wire.MessagesRequest) -> ChatRequest:
    """Return the conversation as core work.

    Raises:
        InvalidValue: a value makes no sense; the fact `param` is its path.
        Unsupported: a field asks for what is not offered and would change the result.
    """
    budget = request.thinking.budget_tokens if request.thinking else None
    if budget is not None and budget >= request.max_tokens:
        raise InvalidValue.of("thinking.budget_tokens", "'max_tokens' must be greater than 'thinking.budget_tokens'")
    sampling = SamplingParams(
        temperature=request.temperature,
        top_k=None if request.top_k is None else max(request.top_k, 0),
        top_p=request.top_p,
        max_tokens=request.max_tokens,
        stop=tuple(text for text in request.stop_sequences or [] if text),
    )
    return _chat(request, sampling)


def count_to_core(request: wire.Conversation) -> TokenizeRequest:
    """Return the question how long a conversation's prompt is; raises as `to_core`."""
    chat = _chat(request, SamplingParams())
    return TokenizeRequest(model=request.model, chat=chat)


def tells_thoughts(request: wire.Conversation) -> bool:
    """Tell whether an answer has thinking blocks: only if asked for, as clients take its first block for the text."""
    return request.thinking is not None and request.thinking.type != "disabled"


def _chat(request: wire.Conversation, sampling: SamplingParams) -> ChatRequest:
    for name, note in REFUSED.items():
        if getattr(request, name):
            raise Unsupported.of(name, f"'{name}' is not supported: {note}")
    messages = messages_to_core(request)
    continued = messages[-1].role == "assistant" and not messages[-1].tool_calls
    if continued and not _text_of(messages[-1]):
        messages, continued = messages[:-1] or messages, False
    choice, name = _tool_choice(request)
    thinks = tells_thoughts(request)
    options: dict[str, bool | int | float | str] = {"enable_thinking": thinks}
    effort = request.output_config.effort if request.output_config else None
    if effort is not None:
        options["reasoning_effort"] = _EFFORTS.get(effort, effort)
    return ChatRequest(
        model=request.model,
        messages=messages,
        sampling=sampling,
        tools=tools_to_core(request),
        template_options=options,
        continue_final=continued,
        tool_choice=choice,
        tool_name=name,
        parallel_tools=not (request.tool_choice and request.tool_choice.disable_parallel_tool_use),
        constraint=_constraint(request),
        reasoning_budget=request.thinking.budget_tokens if thinks and request.thinking else 0,
        scope=request.cache_salt or "",
    )


def _text_of(message: Message) -> str:
    return "".join(part.text for part in message.parts if isinstance(part, TextPart))


def _tool_choice(request: wire.Conversation) -> tuple[Choice, str]:
    wanted = request.tool_choice
    if wanted is None:
        return "auto", ""
    names = [tool.name for tool in request.tools or []]
    if wanted.type in ("any", "tool") and not names:
        raise InvalidValue.of("tool_choice", "'tool_choice' demands a call, but there are no 'tools'")
    if wanted.type != "tool":
        return _CHOICES[wanted.type], ""
    if wanted.name not in names:
        raise InvalidValue.of("tool_choice.name", f"'tool_choice.name' {(wanted.name or '')[:64]!r} is not in 'tools'")
    return "named", wanted.name or ""


def _constraint(request: wire.Conversation) -> Constraint | None:
    nested = request.output_config.format if request.output_config else None
    param = "output_config.format" if nested else "output_format"
    wanted = nested or request.output_format
    if wanted is None:
        return None
    if wanted.type != "json_schema":
        raise InvalidValue.of(f"{param}.type", f"'{param}.type' must be json_schema")
    if wanted.schema is None:
        raise InvalidValue.of(f"{param}.schema", f"Missing required parameter: '{param}.schema'.")
    return JsonConstraint(schema=msgspec.json.encode(wanted.schema).decode(), param=f"{param}.schema")


async def collect(events: AsyncIterable[Event], encoder: MessageEncoder) -> wire.Answer:
    """Return the whole answer: what a client would put together from the stream."""
    answer = _Answer()
    async for event in events:
        for told in encoder.feed(event):
            answer.take(told)
    encoder.close()
    return answer.whole()


class _Answer:
    """Puts a streamed answer together, as the package's own stream helper does."""

    def __init__(self) -> None:
        self._head: wire.Answer | None = None
        self._blocks: list[wire.AnswerBlock] = []
        self._pieces: list[str] = []
        self._signature = ""

    def take(self, event: wire.StreamEvent) -> None:
        match event:
            case wire.MessageStart():
                self._head = event.message
            case wire.ContentBlockStart():
                self._blocks.append(event.content_block)
                self._pieces, self._signature = [], ""
            case wire.ContentBlockDelta():
                self._more(event.delta)
            case wire.ContentBlockStop():
                self._blocks[-1] = self._complete(self._blocks[-1])
            case wire.MessageDelta() if self._head is not None:
                self._head = msgspec.structs.replace(
                    self._head,
                    stop_reason=event.delta.stop_reason,
                    stop_sequence=event.delta.stop_sequence,
                    usage=event.usage,
                )
            case _:
                pass

    def whole(self) -> wire.Answer:
        if self._head is None:
            raise ProtocolError("an answer has no beginning")
        return msgspec.structs.replace(self._head, content=tuple(self._blocks))

    def _more(self, delta: wire.Delta) -> None:
        match delta:
            case wire.TextDelta(text) | wire.ThinkingDelta(text) | wire.InputJsonDelta(text):
                self._pieces.append(text)
            case wire.SignatureDelta(signature):
                self._signature = signature

    def _complete(self, block: wire.AnswerBlock) -> wire.AnswerBlock:
        text = "".join(self._pieces)
        match block:
            case wire.TextBlock():
                return wire.TextBlock(text)
            case wire.ThinkingBlock():
                return wire.ThinkingBlock(text, self._signature)
            case wire.ToolUseBlock():
                return msgspec.structs.replace(block, input=_input(text))


def _input(arguments: str) -> dict[str, Any]:
    """Return a call's input; nothing of one that was cut off by the token limit."""
    try:
        return msgspec.json.decode(arguments or "{}", type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        return {}


async def collect_count(events: AsyncIterable[Event]) -> wire.TokenCount:
    """Return the length of the prompt."""
    async for event in events:
        if isinstance(event, Tokenized):
            return wire.TokenCount(len(event.tokens))
    raise ProtocolError("a question for tokens was not answered")
