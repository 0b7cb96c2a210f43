"""Encoders fed event by event."""

import json
from time import perf_counter
from typing import Any

import pytest

from compat.openai.stream import ChatEncoder, CompletionEncoder, Head, Tally
from server.core.errors import Cancelled, ProtocolError
from server.core.image import StepDone
from server.core.jobs import Loading, Waiting
from server.core.text import TextDelta, TextFinished, TextStarted, Usage
from tests.support.fake_service import answer, said

HEAD = Head(id="chatcmpl-1", created=1_700_000_000, model="tiny", fingerprint="b1-test")


def chat(choices: int = 1, *, include_usage: bool = False) -> ChatEncoder:
    return ChatEncoder(HEAD, Tally(choices, per_prompt=choices), include_usage=include_usage)


def plain(choices: int = 1, *, per_prompt: int = 1, include_usage: bool = False) -> CompletionEncoder:
    return CompletionEncoder(HEAD, Tally(choices, per_prompt=per_prompt), include_usage=include_usage)


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
    encoder = chat(include_usage=True)
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
    encoder = plain(include_usage=True)
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
