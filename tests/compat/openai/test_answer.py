"""Whole answers made of a job's events."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from compat.openai.answer import chat_from_core, collect, completion_from_core
from compat.openai.stream import Head, Manner, Tally
from server.core.errors import Cancelled, ProtocolError
from server.core.jobs import Event
from server.core.text import (
    EmbeddingsReady,
    LikelyToken,
    ReasoningDelta,
    TextDelta,
    TextStarted,
    TokenLogprob,
    ToolCallDelta,
)
from tests.support.fake_service import said

HEAD = Head(id="chatcmpl-1", created=5, model="tiny", fingerprint="b1")


async def _events(*events: Event) -> AsyncIterator[Event]:
    for event in events:
        yield event


def test_a_whole_answer_is_its_stream_collected() -> None:
    events = [
        TextStarted(prompt_tokens=7),
        *said("a", "b", choice=1, cached=3, prompt=7),
        *said("x", choice=0, reason="length", cached=2, prompt=7),
    ]
    answer = asyncio.run(collect(_events(*events), Tally(2, per_prompt=2)))
    body = chat_from_core(HEAD, answer, Manner())
    assert [choice.message.content for choice in body.choices] == ["x", "ab"]
    assert [choice.finish_reason for choice in body.choices] == ["length", "stop"]
    usage = body.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (7, 3, 10)
    assert usage.prompt_tokens_details.cached_tokens == 2


def test_a_job_that_ends_early_is_an_error() -> None:
    with pytest.raises(Cancelled):
        asyncio.run(collect(_events(TextStarted(prompt_tokens=1), *said("x")), Tally(2, per_prompt=2)))


def told(*events: Event, **manner: Any) -> Any:
    answer = asyncio.run(collect(_events(TextStarted(prompt_tokens=3), *events), Tally(1, per_prompt=1)))
    return msgspec.json.decode(msgspec.json.encode(chat_from_core(HEAD, answer, Manner(**manner))))["choices"][0]


CALLS = [
    ToolCallDelta(choice=0, index=0, id="call_1", name="f"),
    ToolCallDelta(choice=0, index=0, arguments='{"a":'),
    ToolCallDelta(choice=0, index=0, arguments="1}"),
    ToolCallDelta(choice=0, index=1, id="call_2", name="g", arguments="{}"),
]


def test_calls_make_a_message_without_text() -> None:
    choice = told(*CALLS, *said(reason="tool_calls"))
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"] == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "annotations": [],
        "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}},
            {"id": "call_2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
        ],
    }


@pytest.mark.parametrize(
    ("reason", "old", "expected"),
    [
        ("stop", False, "tool_calls"),
        ("tool_calls", True, "function_call"),
        ("stop", True, "function_call"),
        ("length", False, "length"),
    ],
)
def test_why_an_answer_with_calls_ended(reason: Any, old: bool, expected: str) -> None:
    assert told(*CALLS, *said(reason=reason), old_calls=old)["finish_reason"] == expected


def test_the_old_form_has_one_call() -> None:
    message = told(*CALLS[:3], *said(), old_calls=True)["message"]
    assert message["function_call"] == {"name": "f", "arguments": '{"a":1}'}
    assert "tool_calls" not in message


def test_a_call_without_a_name_is_not_told() -> None:
    with pytest.raises(ProtocolError):
        told(CALLS[1], *said())


def test_thoughts_stand_beside_the_text_unless_they_are_unwanted() -> None:
    events = [ReasoningDelta(choice=0, text="hm"), ReasoningDelta(choice=0, text=", so"), *said("Yes")]
    message = told(*events)["message"]
    assert (message["reasoning_content"], message["content"]) == ("hm, so", "Yes")
    assert "reasoning_content" not in told(*events, reasoning=False)["message"]


def test_an_empty_answer_has_an_empty_text() -> None:
    assert told(*said())["message"]["content"] == ""


A = TokenLogprob(token=1, piece=b"He", logprob=-0.5, top=(LikelyToken(1, b"He", -0.5), LikelyToken(2, b"\xc3", -2.0)))
B = TokenLogprob(token=3, piece=b"y", logprob=-0.25)


def test_logprobs_are_those_of_thoughts_text_and_calls_in_order() -> None:
    events = [
        ReasoningDelta(choice=0, text="He", logprobs=(A,)),
        TextDelta(choice=0, text="y", logprobs=(B,)),
        ToolCallDelta(choice=0, index=0, id="c", name="f", logprobs=(A,)),
        *said(),
    ]
    assert told(*events)["logprobs"] is None
    logprobs = told(*events, logprobs=True)["logprobs"]
    assert [token["token"] for token in logprobs["content"]] == ["He", "y", "He"]
    assert logprobs["content"][1] == {"token": "y", "logprob": -0.25, "bytes": [121], "top_logprobs": []}
    assert logprobs["content"][0]["top_logprobs"][1] == {"token": "\ufffd", "logprob": -2.0, "bytes": [195]}
    assert logprobs["refusal"] is None
    assert told(*said("x"), logprobs=True)["logprobs"] == {"content": [], "refusal": None}


def test_a_whole_completion_has_the_four_lists() -> None:
    events = [TextDelta(choice=0, text="He", logprobs=(A,)), TextDelta(choice=0, text="y", logprobs=(B,)), *said()]
    answer = asyncio.run(collect(_events(*events), Tally(1, per_prompt=1)))
    choice = completion_from_core(HEAD, answer, Manner(logprobs=True)).choices[0]
    assert choice.text == "Hey" and choice.logprobs is not None
    assert (choice.logprobs.tokens, choice.logprobs.text_offset) == (("He", "y"), (0, 2))
    assert choice.logprobs.token_logprobs == (-0.5, -0.25)
    assert choice.logprobs.top_logprobs == ({"He": -0.5, "bytes:\\xc3": -2.0}, {"y": -0.25})
    assert completion_from_core(HEAD, answer, Manner()).choices[0].logprobs is None


def test_events_of_another_job_are_a_fault() -> None:
    with pytest.raises(ProtocolError):
        told(EmbeddingsReady(first=0, dimensions=1, vectors=b""))
