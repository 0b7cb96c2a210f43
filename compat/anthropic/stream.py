"""The events of an answer: an encoder that is fed a job's events. It knows nothing of the transport."""

import msgspec

from compat.anthropic import wire
from server.core.errors import Cancelled, ProtocolError
from server.core.jobs import Event, Loading, Waiting
from server.core.text import (
    FinishReason,
    ReasoningDelta,
    TextDelta,
    TextFinished,
    TextStarted,
    ToolCallDelta,
)

# Clients store thinking blocks with their signature and send both back; nothing here depends on it.
SIGNATURE = "unsigned"

_REASONS: dict[FinishReason, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "cancelled": "end_turn",
}


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer takes from its request. `thoughts` and `thinking_text`: are there thinking blocks, with text."""

    id: str
    model: str
    stops: tuple[str, ...] = ()
    thoughts: bool = False
    thinking_text: bool = True


class MessageEncoder:
    """Makes blocks of what a model writes: thoughts, text and calls, each opened, continued and closed."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._prompt_tokens = 0
        self._open: str | int | None = None  # "text", "thinking", the number of a call, or nothing
        self._blocks = 0
        self._calls = 0
        self._finished = False

    def feed(self, event: Event) -> list[wire.StreamEvent]:
        """Return the events that an event of the job makes."""
        match event:
            case TextDelta():
                return [*self._enter("text", wire.TextBlock("")), self._more(wire.TextDelta(event.text))]
            case ReasoningDelta():
                return self._think(event)
            case ToolCallDelta():
                return self._call(event)
            case TextFinished():
                return self._finish(event)
            case TextStarted():
                return self._start(event)
            case Waiting() | Loading():
                return []
            case _:
                raise ProtocolError("a conversation was answered by something else than text")

    def close(self) -> None:
        """Raise Cancelled when the job ended before its answer did."""
        if not self._finished:
            raise Cancelled("the request was cancelled before its answer was complete", mode="stop")

    def _start(self, event: TextStarted) -> list[wire.StreamEvent]:
        self._prompt_tokens = event.prompt_tokens
        message = wire.Answer(
            id=self._asked.id,
            model=self._asked.model,
            content=(),
            stop_reason=None,
            stop_sequence=None,
            usage=wire.Usage(input_tokens=event.prompt_tokens, output_tokens=0),
        )
        return [wire.MessageStart(message)]

    def _think(self, event: ReasoningDelta) -> list[wire.StreamEvent]:
        if not self._asked.thoughts:
            return []
        entered = self._enter("thinking", wire.ThinkingBlock("", ""))
        return [*entered, self._more(wire.ThinkingDelta(event.text))] if self._asked.thinking_text else entered

    def _call(self, event: ToolCallDelta) -> list[wire.StreamEvent]:
        told: list[wire.StreamEvent] = []
        if self._open != event.index:
            if event.index != self._calls or not event.name:
                raise ProtocolError("the pieces of a tool call came out of order")
            self._calls += 1
            told = self._enter(event.index, wire.ToolUseBlock(event.id, event.name, {}))
        if event.arguments:
            told.append(self._more(wire.InputJsonDelta(event.arguments)))
        return told

    def _enter(self, kind: str | int, block: wire.AnswerBlock) -> list[wire.StreamEvent]:
        if self._open == kind:
            return []
        told = self._leave()
        self._open = kind
        told.append(wire.ContentBlockStart(self._blocks, block))
        self._blocks += 1
        return told

    def _leave(self) -> list[wire.StreamEvent]:
        told: list[wire.StreamEvent] = []
        if self._open == "thinking":
            told.append(self._more(wire.SignatureDelta(SIGNATURE)))
        if self._open is not None:
            told.append(wire.ContentBlockStop(self._blocks - 1))
        self._open = None
        return told

    def _more(self, delta: wire.Delta) -> wire.ContentBlockDelta:
        return wire.ContentBlockDelta(self._blocks - 1, delta)

    def _finish(self, event: TextFinished) -> list[wire.StreamEvent]:
        self._finished = True
        told = self._leave()
        told.append(wire.MessageDelta(self._stop(event), self._usage(event)))
        told.append(wire.MessageStop())
        return told

    def _stop(self, event: TextFinished) -> wire.StopDelta:
        if event.reason == "stop" and event.stopped_by in self._asked.stops:
            return wire.StopDelta("stop_sequence", event.stopped_by)
        if event.reason == "stop" and self._calls:
            return wire.StopDelta("tool_use", None)
        return wire.StopDelta(_REASONS[event.reason], None)

    def _usage(self, event: TextFinished) -> wire.Usage:
        prompt = self._prompt_tokens or event.usage.prompt_tokens
        cached = min(event.usage.cached_tokens, prompt)
        return wire.Usage(
            input_tokens=prompt - cached,
            cache_read_input_tokens=cached,
            output_tokens=event.usage.completion_tokens,
        )
