"""Encoders fed event by event."""

import json
from time import perf_counter
from typing import Any

import pytest

from compat.openai.stream import ChatEncoder, CompletionEncoder, Head, Manner, Tally
from server.core.errors import Cancelled, ProtocolError
from server.core.image import StepDone
from server.core.jobs import Loading, Waiting
from server.core.text import (
    EmbeddingsReady,
    LikelyToken,
    ReasoningDelta,
    TextDelta,
    TextFinished,
    TextStarted,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)
from tests.support.fake_service import answer, said

HEAD = Head(id="chatcmpl-1", created=1_700_000_000, model="tiny", fingerprint="b1-test")


def chat(choices: int = 1, **manner: bool) -> ChatEncoder:
    return ChatEncoder(HEAD, Tally(choices, per_prompt=choices), Manner(**manner))


def plain(choices: int = 1, *, per_prompt: int = 1, **manner: bool) -> CompletionEncoder:
    return CompletionEncoder(HEAD, Tally(choices, per_prompt=per_prompt), Manner(**manner))


def parsed(bodies: list[bytes]) -> list[Any]:
    return [json.loads(body) for body in bodies]


def test_a_chat_stream_chunk_by_chunk() -> None:
    encoder = chat()
    assert encoder.feed(Waiting(position=0)) == []
    assert encoder.feed(Loading(model="tiny")) == []
    assert encoder.feed(TextStarted(prompt_tokens=5)) == []
    first, second = encoder.feed(TextDelta(choice=0, text="Hé"))
    common = (
        '"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,'
        '"model":"tiny","system_fingerprint":"b1-test"'
    )
    assert first.decode() == (
        f'{{{common},"choices":[{{"index":0,"delta":{{"role":"assistant","content":null}},"logprobs":null,"finish_reason":null}}]}}'
    )
    assert second.decode() == (
        f'{{{common},"choices":[{{"index":0,"delta":{{"content":"Hé"}},"logprobs":null,"finish_reason":null}}]}}'
    )
    (third,) = encoder.feed(TextDelta(choice=0, text="\n"))
    assert b"\n" not in third and json.loads(third)["choices"][0]["delta"] == {"content": "\n"}
    finished = TextFinished(choice=0, reason="length", usage=Usage(prompt_tokens=5, completion_tokens=2))
    (last,) = encoder.feed(finished)
    assert last.decode() == (
        f'{{{common},"choices":[{{"index":0,"delta":{{}},"logprobs":null,"finish_reason":"length"}}]}}'
    )
    assert encoder.close() == [b"[DONE]"]


def test_usage_is_null_until_the_last_chunk_which_has_no_choices() -> None:
    encoder = chat(usage=True)
    chunks = parsed([body for event in answer("a", "b", prompt=9, cached=4) for body in encoder.feed(event)])
    assert [chunk["usage"] for chunk in chunks] == [None] * 4
    assert all("timings" not in chunk for chunk in chunks)
    usage, done = encoder.close()
    assert done == b"[DONE]"
    last = json.loads(usage)
    assert last["choices"] == []
    assert last["usage"] == {
        "prompt_tokens": 9,
        "completion_tokens": 2,
        "total_tokens": 11,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }
    assert last["timings"]["cache_n"] == 4 and last["timings"]["prompt_n"] == 5


def test_without_usage_the_timings_are_on_the_finish_chunk() -> None:
    encoder = chat()
    chunks = parsed([body for event in answer("a", "b", prompt=5) for body in encoder.feed(event)])
    assert all("usage" not in chunk for chunk in chunks)
    assert ["timings" in chunk for chunk in chunks] == [False, False, False, True]
    timings = chunks[-1]["timings"]
    assert (timings["prompt_ms"], timings["prompt_per_second"]) == (10.0, 500.0)
    assert (timings["predicted_ms"], timings["predicted_per_token_ms"]) == (20.0, 10.0)


def test_every_choice_has_its_own_role_and_finish_chunk() -> None:
    encoder = chat(2)
    events = [TextStarted(prompt_tokens=5), *said("x", choice=1), *said(choice=0)]
    choices = [chunk["choices"][0] for event in events for chunk in parsed(encoder.feed(event))]
    assert [(choice["index"], choice["delta"], choice["finish_reason"]) for choice in choices] == [
        (1, {"role": "assistant", "content": None}, None),
        (1, {"content": "x"}, None),
        (1, {}, "stop"),
        (0, {"role": "assistant", "content": None}, None),
        (0, {}, "stop"),
    ]
    assert encoder.close() == [b"[DONE]"]


def test_an_empty_delta_makes_no_chunk() -> None:
    assert chat().feed(TextDelta(choice=0, text="")) == []
    assert plain().feed(TextDelta(choice=0, text="")) == []


def test_a_stopped_job_finishes_with_a_word_that_clients_know() -> None:
    finished = TextFinished(choice=0, reason="cancelled", usage=Usage())
    assert parsed(chat().feed(finished))[-1]["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("encoder", [chat(2), plain(2)])
def test_a_stream_that_ends_before_its_choices_is_an_error(encoder: ChatEncoder | CompletionEncoder) -> None:
    for event in said("x"):
        encoder.feed(event)
    with pytest.raises(Cancelled):
        encoder.close()


@pytest.mark.parametrize("encoder", [chat(), plain()])
def test_pictures_do_not_belong_here(encoder: ChatEncoder | CompletionEncoder) -> None:
    with pytest.raises(ProtocolError):
        encoder.feed(StepDone(pass_index=0, step=1, steps=2))


def test_a_completion_stream() -> None:
    encoder = plain(usage=True)
    chunks = parsed([body for event in answer("a", "b", reason="length") for body in encoder.feed(event)])
    assert [chunk["choices"] for chunk in chunks] == [
        [{"text": "a", "index": 0, "logprobs": None, "finish_reason": None}],
        [{"text": "b", "index": 0, "logprobs": None, "finish_reason": None}],
        [{"text": "", "index": 0, "logprobs": None, "finish_reason": "length"}],
    ]
    assert {chunk["object"] for chunk in chunks} == {"text_completion"}
    usage, done = encoder.close()
    assert json.loads(usage)["usage"]["total_tokens"] == 7 and json.loads(usage)["choices"] == []
    assert done == b"[DONE]"


def test_a_prompt_counts_once_however_many_choices_continue_it() -> None:
    tally = Tally(4, per_prompt=2)
    tally.start(TextStarted(prompt_tokens=30))
    for choice, (prompt, cached) in enumerate([(10, 1), (10, 10), (20, 2), (20, 20)]):
        used = Usage(prompt_tokens=prompt, cached_tokens=cached, completion_tokens=3)
        tally.finish(TextFinished(choice=choice, reason="stop", usage=used))
    usage = tally.usage()
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (30, 12, 42)
    assert usage.prompt_tokens_details.cached_tokens == 3


def test_a_chunk_costs_less_than_ten_microseconds() -> None:
    encoder, event = chat(), TextDelta(choice=0, text=" world")
    encoder.feed(event)
    best = float("inf")
    for _ in range(5):
        began = perf_counter()
        for _ in range(2000):
            encoder.feed(event)
        best = min(best, (perf_counter() - began) / 2000)
    assert best < 10e-6


def deltas(encoder: ChatEncoder, *events: Any) -> list[Any]:
    return [chunk["choices"][0]["delta"] for event in events for chunk in parsed(encoder.feed(event))]


CALLS = [
    ToolCallDelta(choice=0, index=0, id="call_1", name="f"),
    ToolCallDelta(choice=0, index=0, arguments='{"a":'),
    ToolCallDelta(choice=0, index=0, arguments=""),
    ToolCallDelta(choice=0, index=0, arguments="1}"),
    ToolCallDelta(choice=0, index=1, id="call_2", name="g", arguments="{"),
    ToolCallDelta(choice=0, index=1, arguments="}"),
]


def test_a_call_has_its_id_and_name_once_and_its_index_always() -> None:
    first, *told = deltas(chat(), *CALLS)
    assert first == {"role": "assistant", "content": None}
    assert told == [
        {"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a":'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]},
        {"tool_calls": [{"index": 1, "id": "call_2", "type": "function", "function": {"name": "g", "arguments": "{"}}]},
        {"tool_calls": [{"index": 1, "function": {"arguments": "}"}}]},
    ]


@pytest.mark.parametrize(
    ("reason", "old_calls", "expected"),
    [("stop", False, "tool_calls"), ("tool_calls", False, "tool_calls"), ("stop", True, "function_call")],
)
def test_a_choice_with_calls_finishes_with_them(reason: Any, old_calls: bool, expected: str) -> None:
    encoder = chat(old_calls=old_calls)
    encoder.feed(CALLS[0])
    finished = TextFinished(choice=0, reason=reason, usage=Usage())
    assert parsed(encoder.feed(finished))[-1]["choices"][0]["finish_reason"] == expected


def test_the_old_form_of_a_call() -> None:
    _, *told = deltas(chat(old_calls=True), *CALLS)
    assert told == [
        {"function_call": {"name": "f", "arguments": ""}},
        {"function_call": {"arguments": '{"a":'}},
        {"function_call": {"arguments": "1}"}},
    ]


def test_thoughts_come_before_the_text_unless_they_are_unwanted() -> None:
    events = [ReasoningDelta(choice=0, text="hm"), TextDelta(choice=0, text="Yes")]
    assert deltas(chat(), *events)[1:] == [{"reasoning_content": "hm"}, {"content": "Yes"}]
    assert deltas(chat(reasoning=False), *events)[1:] == [{"content": "Yes"}]


TOKEN = TokenLogprob(token=1, piece="é".encode()[:1], logprob=float("-inf"), top=(LikelyToken(2, b"x", -0.5),))


def test_logprobs_travel_with_what_they_belong_to() -> None:
    encoder = chat(logprobs=True)
    events = [
        ReasoningDelta(choice=0, text="hm", logprobs=(TOKEN,)),
        TextDelta(choice=0, text="Yes", logprobs=(TOKEN, TOKEN)),
        ToolCallDelta(choice=0, index=0, id="c", name="f", logprobs=(TOKEN,)),
        ToolCallDelta(choice=0, index=0, logprobs=(TOKEN,)),
    ]
    chunks = [chunk["choices"][0] for event in events for chunk in parsed(encoder.feed(event))]
    assert [chunk["logprobs"] and len(chunk["logprobs"]["content"]) for chunk in chunks] == [None, 1, 2, 1, 1]
    assert chunks[-1]["delta"] == {}
    assert chunks[1]["logprobs"]["content"][0] == {
        "token": "\ufffd",
        "logprob": -9999.0,
        "bytes": [0xC3],
        "top_logprobs": [{"token": "x", "logprob": -0.5, "bytes": [120]}],
    }
    assert parsed(chat().feed(events[1]))[-1]["choices"][0]["logprobs"] is None


def test_reasoning_tokens_are_counted() -> None:
    tally = Tally(2, per_prompt=2)
    for choice in range(2):
        used = Usage(prompt_tokens=5, completion_tokens=9, reasoning_tokens=4)
        tally.finish(TextFinished(choice=choice, reason="stop", usage=used))
    assert tally.usage().completion_tokens_details.reasoning_tokens == 8


def test_a_completion_stream_with_logprobs_counts_characters_on() -> None:
    encoder = plain(logprobs=True)
    first = TextDelta(choice=0, text="Hé", logprobs=(TokenLogprob(1, "Hé".encode(), None),))
    second = TextDelta(choice=0, text="y", logprobs=(TokenLogprob(2, b"y", -1.0),))
    told = [chunk["choices"][0]["logprobs"] for event in (first, second) for chunk in parsed(encoder.feed(event))]
    assert told == [
        {"tokens": ["Hé"], "token_logprobs": [None], "top_logprobs": [None], "text_offset": [0]},
        {"tokens": ["y"], "token_logprobs": [-1.0], "top_logprobs": [{"y": -1.0}], "text_offset": [2]},
    ]


@pytest.mark.parametrize("event", [CALLS[0], ReasoningDelta(choice=0, text="x")])
def test_a_plain_completion_has_neither_thoughts_nor_calls(event: Any) -> None:
    with pytest.raises(ProtocolError):
        plain().feed(event)


@pytest.mark.parametrize("encoder", [chat(), plain()])
def test_vectors_do_not_belong_here(encoder: ChatEncoder | CompletionEncoder) -> None:
    with pytest.raises(ProtocolError):
        encoder.feed(EmbeddingsReady(first=0, dimensions=1, vectors=b""))
