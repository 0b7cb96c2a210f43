"""Chats that ask for pictures, as a chat model says them."""

from typing import Any

import msgspec

from compat.openai import wire
from compat.openai.picture_tool.names import TYPE
from compat.openai.picture_tool.tool import PictureTool
from server.core.jobs import Event
from server.core.models import ModelCard
from server.core.text import FinishReason, TextDelta, TextFinished, TextStarted, ToolCallDelta, Usage
from tests.compat.openai.images.sent import card
from tests.support.fake_service import FakeService, text_card

CAT = '{"prompt":"a cat"}'
FUNCTION: dict[str, Any] = {"type": "function", "function": {"name": "weather"}}


def service(*cards: ModelCard) -> FakeService:
    """Return a service with a chat model and a checkpoint."""
    return FakeService(*(cards or (text_card(), card())))


def fields(**given: Any) -> wire.Tool:
    """Return the tool as a request has it."""
    return msgspec.convert({"type": TYPE, **given}, wire.Tool)


def tool(base: bytes | None = None, mask: bytes | None = None, most: int = 8, **given: Any) -> PictureTool:
    """Return the tool of a request, for a checkpoint `paint`."""
    return PictureTool(asked=fields(**given), card=card(), where="tools[0]", base=base, mask=mask, most=most)


def calls(*arguments: str, text: str = "", other: bool = False, reason: FinishReason = "tool_calls") -> list[Event]:
    """Return the events of a chat that says `text` and calls the tool, then perhaps another function."""
    events: list[Event] = [TextStarted(prompt_tokens=7)]
    events += [TextDelta(choice=0, text=text)] if text else []
    names = [*((TYPE, one) for one in arguments), *((("weather", "{}"),) if other else ())]
    for index, (name, said) in enumerate(names):
        half = len(said) // 2
        events.append(ToolCallDelta(choice=0, index=index, id=f"call{index:05d}", name=name))
        events += [ToolCallDelta(choice=0, index=index, arguments=part) for part in (said[:half], said[half:])]
    usage = Usage(prompt_tokens=7, completion_tokens=5, cached_tokens=1, reasoning_tokens=1)
    return [*events, TextFinished(choice=0, reason=reason, usage=usage, prompt_ms=2.0, predicted_ms=3.0)]
