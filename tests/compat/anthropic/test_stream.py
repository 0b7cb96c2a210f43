"""The encoder: events of a job in, events of the API out."""

from time import perf_counter
from typing import Any

import msgspec
import pytest

from compat.anthropic.stream import Asked, MessageEncoder
from server.core.errors import Cancelled, ProtocolError
from server.core.image import ImageStarted
from server.core.jobs import Event, Loading, Waiting
from server.core.text import (
    FinishReason,
    ReasoningDelta,
    TextDelta,
    TextFinished,
    TextStarted,
    Tokenized,
    ToolCallDelta,
    Usage,
)

START = TextStarted(prompt_tokens=5)


def text(content: str) -> TextDelta:
    return TextDelta(choice=0, text=content)


def thought(content: str) -> ReasoningDelta:
    return ReasoningDelta(choice=0, text=content)


def call(index: int, **fields: Any) -> ToolCallDelta:
    return ToolCallDelta(choice=0, index=index, **fields)


def end(reason: FinishReason = "stop", stopped_by: str | None = None) -> TextFinished:
    return TextFinished(choice=0, reason=reason, stopped_by=stopped_by, usage=Usage(prompt_tokens=5))


def encoded(*events: Event, **fields: Any) -> list[dict[str, Any]]:
    encoder = MessageEncoder(Asked(id="msg_1", model="m", **fields))
    told = [item for event in events for item in encoder.feed(event)]
    encoder.close()
    return [msgspec.to_builtins(item) for item in told]


def brief(events: list[dict[str, Any]]) -> list[str]:
    """Return what happens, in short: `+0 text`, `0 "x"`, `-0`."""
    lines = []
    for event in events:
        match event:
            case {"type": "content_block_start", "index": index, "content_block": block}:
                lines.append(f"+{index} {block['type']}")
            case {"type": "content_block_delta", "index": index, "delta": delta}:
                kind, value = delta.values()
                lines.append(f"{index} {kind.removesuffix('_delta')} {value}")
            case {"type": "content_block_stop", "index": index}:
                lines.append(f"-{index}")
            case _:
                lines.append(event["type"])
    return lines


def test_the_whole_sequence() -> None:
    told = encoded(
        Waiting(position=0),
        Loading(model="m"),
        START,
        thought("h"),
        thought("m"),
        text("I "),
        text("look"),
        call(0, id="a", name="look"),
        call(0, arguments='{"a":'),
        call(0, arguments="1}"),
        call(1, id="b", name="go", arguments="{}"),
        end("tool_calls"),
        thoughts=True,
    )
    assert brief(told) == [
        "message_start",
        "+0 thinking",
        "0 thinking h",
        "0 thinking m",
        "0 signature unsigned",
        "-0",
        "+1 text",
        "1 text I ",
        "1 text look",
        "-1",
        "+2 tool_use",
        '2 input_json {"a":',
        "2 input_json 1}",
        "-2",
        "+3 tool_use",
        "3 input_json {}",
        "-3",
        "message_delta",
        "message_stop",
    ]
    start = told[0]["message"]
    assert (start["role"], start["content"], start["stop_reason"]) == ("assistant", (), None)
    assert start["usage"]["input_tokens"] == 5 and start["type"] == "message"
    assert told[10]["content_block"] == {"type": "tool_use", "id": "a", "name": "look", "input": {}}


def test_an_answer_without_a_word_has_no_block() -> None:
    assert brief(encoded(START, end())) == ["message_start", "message_delta", "message_stop"]


def test_thoughts_that_nobody_asked_for_are_not_told() -> None:
    assert brief(encoded(START, thought("h"), text("x"), end()))[1:3] == ["+0 text", "0 text x"]


def test_thoughts_may_be_told_without_their_text() -> None:
    told = encoded(START, thought("h"), text("x"), end(), thoughts=True, thinking_text=False)
    assert brief(told)[1:4] == ["+0 thinking", "0 signature unsigned", "-0"]


@pytest.mark.parametrize(
    ("event", "reason", "sequence"),
    [
        (end(), "end_turn", None),
        (end(stopped_by="X"), "stop_sequence", "X"),
        (end(stopped_by="<|im_end|>"), "end_turn", None),
        (end("length"), "max_tokens", None),
        (end("tool_calls"), "tool_use", None),
        (end("cancelled"), "end_turn", None),
    ],
)
def test_why_it_ended(event: TextFinished, reason: str, sequence: str | None) -> None:
    last = encoded(START, event, stops=("X",))[-2]
    assert last["delta"] == {"stop_reason": reason, "stop_sequence": sequence}


def test_a_call_before_the_end_token_is_told_as_the_reason() -> None:
    assert encoded(START, call(0, id="a", name="f"), end())[-2]["delta"]["stop_reason"] == "tool_use"


@pytest.mark.parametrize(
    "events",
    [
        [call(0, id="a", name="f"), call(1, id="b", name="g"), call(0, arguments="{}")],
        [call(1, id="a", name="f")],
        [call(0, arguments="{}")],
        [ImageStarted(passes=1, steps=1)],
        [Tokenized(tokens=(), pieces=(), text="")],
    ],
)
def test_what_an_engine_must_not_do(events: list[Event]) -> None:
    with pytest.raises(ProtocolError):
        encoded(START, *events)


def test_the_end_must_come() -> None:
    with pytest.raises(Cancelled):
        encoded(START, text("x"))


def test_a_token_costs_little() -> None:
    encoder = MessageEncoder(Asked(id="msg_1", model="m"))
    encoder.feed(START)
    encode = msgspec.json.Encoder().encode
    event = text("word ")
    best = 1.0
    for _ in range(5):
        began = perf_counter()
        for _ in range(1000):
            for item in encoder.feed(event):
                encode(item)
        best = min(best, perf_counter() - began)
    assert best / 1000 < 50e-6
