"""Requests to the core, and whole answers back."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from compat.llama_server import wire
from compat.llama_server.convert import (
    asked_by,
    chosen_fields,
    collect,
    completion_to_core,
    infill_to_core,
    tokens_from_core,
)
from compat.llama_server.stream import CompletionEncoder
from server.core.errors import BadRequest, Cancelled, InvalidValue, Unsupported
from server.core.jobs import Event
from server.core.text import (
    CompletionRequest,
    LikelyToken,
    TextDelta,
    TextFinished,
    TextStarted,
    Tokenized,
    TokenLogprob,
    Usage,
)
from tests.compat.llama_server.door import completion
from tests.support.aio import asynchronous


def infill(**fields: Any) -> CompletionRequest:
    request = msgspec.convert({"input_prefix": "pre", "input_suffix": "suf", **fields}, wire.InfillRequest)
    return infill_to_core(request, "tiny")


def test_prompts_and_choices() -> None:
    work = completion_to_core(completion(prompt=["a", [1]], n=9, n_cmpl=2), "tiny")
    assert (work.prompts, work.choices, work.model) == (("a", (1,)), 2, "tiny")


@pytest.mark.parametrize(
    ("fields", "logprobs"),
    [({}, None), ({"n_probs": 0}, None), ({"n_probs": 3}, 3), ({"return_tokens": True}, 0)],
)
def test_what_is_asked_about_tokens(fields: dict[str, Any], logprobs: int | None) -> None:
    assert completion_to_core(completion(**fields), "tiny").logprobs == logprobs


@pytest.mark.parametrize(
    ("fields", "error", "param"),
    [
        ({"post_sampling_probs": True}, Unsupported, "post_sampling_probs"),
        ({"prompt": ["x"] * 100, "n_cmpl": 100}, InvalidValue, "n_cmpl"),
    ],
)
def test_refusals(fields: dict[str, Any], error: type[BadRequest], param: str) -> None:
    with pytest.raises(error) as caught:
        completion_to_core(completion(**fields), "tiny")
    assert caught.value.fact("param") == param


def test_infill_puts_everything_before_the_gap_into_the_prefix() -> None:
    work = infill(prompt="mid", input_extra=[{"filename": "a.py", "text": "x = 1"}, {"text": "y"}], n_predict=3)
    assert (work.prompts, work.suffix) == (("a.py\nx = 1\nypremid",), "suf")
    assert work.sampling.max_tokens == 3
    assert infill().prompts == ("pre",)


LIKELY = TokenLogprob(5, b"He", -0.5, (LikelyToken(5, b"He", -0.5), LikelyToken(6, b"\xc3", -1.5)))


async def play(*events: Event) -> AsyncIterator[Event]:
    for event in events:
        yield event


def finished(choice: int = 0, **fields: Any) -> TextFinished:
    usage = Usage(prompt_tokens=5, completion_tokens=2, cached_tokens=3)
    given = {"reason": "stop", "usage": usage, "prompt_ms": 10.0, "predicted_ms": 20.0} | fields
    return TextFinished(choice=choice, **given)


async def told(request: wire.CompletionRequest, *events: Event) -> list[wire.Completion]:
    work = completion_to_core(request, "tiny")
    return await collect(play(*events), CompletionEncoder(asked_by(request, work)))


@asynchronous
async def test_a_whole_completion() -> None:
    request = completion(n_probs=2, return_tokens=True, stop=["\n"])
    events = (
        TextStarted(prompt_tokens=5),
        TextDelta(choice=0, text="He", logprobs=(LIKELY,)),
        TextDelta(choice=0, text="y\n", logprobs=(TokenLogprob(7, b"y", -0.1),)),
        finished(stopped_by="\n"),
    )
    (body,) = await told(request, *events)
    assert (body.content, body.tokens, body.stop, body.model, body.prompt) == ("Hey\n", (5, 7), True, "tiny", "p")
    assert (body.stop_type, body.stopping_word, body.stopped_word, body.stopped_eos) == ("word", "\n", True, False)
    assert (body.tokens_predicted, body.tokens_evaluated, body.tokens_cached) == (2, 5, 3)
    assert body.has_new_line and not body.truncated
    timings = body.timings
    assert (timings.cache_n, timings.prompt_n, timings.prompt_per_token_ms) == (3, 2, 5.0)
    assert (timings.predicted_n, timings.predicted_per_second) == (2, 100.0)
    first, second = body.completion_probabilities  # type: ignore[misc]
    assert (first.token, first.bytes, first.logprob, first.id) == ("He", [72, 101], -0.5, 5)
    assert [(top.id, top.token, top.bytes) for top in first.top_logprobs] == [(5, "He", [72, 101]), (6, "�", [195])]
    assert second.top_logprobs == []


@asynchronous
async def test_completions_come_in_order_with_their_prompts() -> None:
    request = completion(prompt=["a", "b"], n_cmpl=2)
    events: list[Event] = [TextStarted(prompt_tokens=10)]
    for choice in (3, 0, 2, 1):
        events += [TextDelta(choice=choice, text=f"t{choice}"), finished(choice)]
    bodies = await told(request, *events)
    assert [(body.index, body.prompt, body.content) for body in bodies] == [
        (0, "a", "t0"),
        (1, "a", "t1"),
        (2, "b", "t2"),
        (3, "b", "t3"),
    ]


@pytest.mark.parametrize(
    ("fields", "end", "stop_type", "truncated"),
    [
        ({}, {"reason": "stop"}, "eos", False),
        ({}, {"reason": "stop", "stopped_by": "<|im_end|>"}, "eos", False),
        ({"n_predict": 2}, {"reason": "length"}, "limit", False),
        ({"n_predict": 9}, {"reason": "length"}, "limit", True),
        ({}, {"reason": "length"}, "limit", True),
        ({}, {"reason": "cancelled"}, "none", False),
    ],
)
@asynchronous
async def test_how_it_ended(fields: dict[str, Any], end: dict[str, Any], stop_type: str, truncated: bool) -> None:
    (body,) = await told(completion(**fields), TextStarted(prompt_tokens=5), finished(**end))
    assert (body.stop_type, body.truncated, body.stopping_word) == (stop_type, truncated, "")
    assert body.stopped_limit == (stop_type == "limit")


@asynchronous
async def test_an_answer_without_all_ends_was_cancelled() -> None:
    with pytest.raises(Cancelled):
        await told(completion(n_cmpl=2), TextStarted(prompt_tokens=5), finished(0))


@asynchronous
async def test_wanted_fields() -> None:
    (body,) = await told(completion(), TextStarted(prompt_tokens=5), TextDelta(choice=0, text="x"), finished())
    wanted = ["content", "generation_settings/top_k", "content/x", "nothing", "timings/cache_n"]
    assert chosen_fields(body, wanted) == {"content": "x", "top_k": 40, "cache_n": 3}
    assert chosen_fields(body, []) is body


def test_pieces_that_are_no_text_are_told_as_bytes() -> None:
    tokens = Tokenized(tokens=(1, 2), pieces=("é".encode(), b"\xc3"), text="")
    assert msgspec.to_builtins(tokens_from_core(tokens, with_pieces=True)) == {
        "tokens": ({"id": 1, "piece": "é"}, {"id": 2, "piece": [195]})
    }
    assert msgspec.to_builtins(tokens_from_core(tokens, with_pieces=False)) == {"tokens": (1, 2)}
