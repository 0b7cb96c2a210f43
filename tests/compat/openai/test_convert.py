"""Requests on the wire and the core work they become."""

import asyncio
from collections.abc import AsyncIterator
from math import inf
from typing import Any

import msgspec
import pytest

from compat.openai import wire
from compat.openai.convert import chat_from_core, chat_to_core, collect, completion_to_core, ignored_options
from compat.openai.stream import Head, Tally
from server.core.errors import Cancelled, InvalidValue, Unsupported
from server.core.jobs import Event
from server.core.text import ChatRequest, CompletionRequest, TextStarted
from tests.support.fake_service import said

HELLO = [{"role": "user", "content": "hi"}]


def chat(**fields: Any) -> ChatRequest:
    request = msgspec.convert({"messages": HELLO, **fields}, wire.ChatCompletionRequest)
    return chat_to_core(request, "tiny")


def completion(**fields: Any) -> CompletionRequest:
    return completion_to_core(msgspec.convert({"prompt": "p", **fields}, wire.CompletionRequest), "tiny", 16)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {}),
        ({"temperature": 0.5, "top_p": 0.9}, {"temperature": 0.5, "top_p": 0.9}),
        ({"temperature": None, "top_k": None, "stop": None, "seed": None}, {}),
        ({"top_k": 0}, {"top_k": 0}),
        ({"top_k": -1}, {"top_k": 0}),
        ({"top_k": 40}, {"top_k": 40}),
        ({"min_p": 0.05, "typical_p": 1}, {"min_p": 0.05, "typical_p": 1.0}),
        ({"repeat_penalty": 1.1}, {"repeat_penalty": 1.1}),
        ({"repetition_penalty": 1.2}, {"repeat_penalty": 1.2}),
        ({"repeat_penalty": 1.1, "repetition_penalty": 1.2}, {"repeat_penalty": 1.1}),
        ({"repeat_penalty": 0}, {"repeat_penalty": 1.0}),
        ({"repeat_last_n": -1}, {"repeat_last_n": -1}),
        ({"frequency_penalty": -2, "presence_penalty": 2}, {"frequency_penalty": -2.0, "presence_penalty": 2.0}),
        ({"seed": 7}, {"seed": 7}),
        ({"seed": -1}, {"seed": None}),
        ({"seed": 2**32 + 5}, {"seed": 5}),
        ({"seed": -2}, {"seed": 2**32 - 2}),
        ({"seed": 2**32 - 1}, {"seed": None}),
        ({"max_tokens": 9}, {"max_tokens": 9}),
        ({"max_tokens": 0}, {"max_tokens": 0}),
        ({"max_tokens": -1}, {"max_tokens": None}),
        ({"n_predict": 3}, {"max_tokens": 3}),
        ({"max_tokens": 9, "n_predict": 3}, {"max_tokens": 9}),
        ({"max_completion_tokens": 4, "max_tokens": 9}, {"max_tokens": 4}),
        ({"max_completion_tokens": None, "max_tokens": 9}, {"max_tokens": 9}),
        ({"max_completion_tokens": -1, "max_tokens": 9}, {"max_tokens": None}),
        ({"stop": "END"}, {"stop": ("END",)}),
        ({"stop": ["a", "", "b"]}, {"stop": ("a", "b")}),
        ({"stop": []}, {}),
        ({"logit_bias": {}}, {}),
        ({"logit_bias": {"15": -100, "3": 2.5}}, {"logit_bias": ((15, -100.0), (3, 2.5))}),
        ({"logit_bias": {"15": False}}, {"logit_bias": ((15, -inf),)}),
        ({"logit_bias": [[15, False], [3, 1]]}, {"logit_bias": ((15, -inf), (3, 1.0))}),
        ({"ignore_eos": True}, {"ignore_eos": True}),
    ],
)
def test_sampling_fields(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    default = chat().sampling
    assert chat(**fields).sampling == msgspec.structs.replace(default, **expected)


def test_a_chat_has_no_limit_of_its_own_and_a_completion_has_sixteen_tokens() -> None:
    assert chat().sampling.max_tokens is None
    assert completion().sampling.max_tokens == 16
    assert completion(max_tokens=None).sampling.max_tokens == 16
    assert completion(max_tokens=-1).sampling.max_tokens is None
    assert completion(n_predict=5).sampling.max_tokens == 5


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("text", ("text",)),
        ("", ("",)),
        (["a", "b"], ("a", "b")),
        ([1, 2, 3], ((1, 2, 3),)),
        ([[1, 2], [3]], ((1, 2), (3,))),
        (["a", [1]], ("a", (1,))),
    ],
)
def test_prompts(prompt: Any, expected: Any) -> None:
    assert completion(prompt=prompt).prompts == expected


def test_the_other_fields_of_a_completion() -> None:
    work = completion(n=3, echo=True, best_of=3)
    assert (work.model, work.choices, work.echo) == ("tiny", 3, True)


@pytest.mark.parametrize(
    ("fields", "error", "param"),
    [
        ({"prompt": [1, "a"]}, InvalidValue, "prompt[0]"),
        ({"prompt": ["a", []]}, InvalidValue, "prompt[1]"),
        ({"prompt": ["a"] * 2049}, InvalidValue, "prompt"),
        ({"prompt": ["a"] * 2048, "n": 2}, InvalidValue, "n"),
        ({"best_of": 1, "n": 2}, InvalidValue, "best_of"),
        ({"best_of": 3}, Unsupported, "best_of"),
        ({"logprobs": 0}, Unsupported, "logprobs"),
        ({"logprobs": 5}, Unsupported, "logprobs"),
        ({"suffix": "x"}, Unsupported, "suffix"),
        ({"response_format": {"type": "json_object"}}, Unsupported, "response_format"),
    ],
)
def test_completions_that_are_refused(fields: dict[str, Any], error: type[Exception], param: str) -> None:
    with pytest.raises(error) as caught:
        completion(**fields)
    assert caught.value.fact("param") == param  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("fields", "error", "param"),
    [
        ({"logprobs": True}, Unsupported, "logprobs"),
        ({"logprobs": True, "top_logprobs": 2}, Unsupported, "logprobs"),
        ({"top_logprobs": 2}, InvalidValue, "top_logprobs"),
        ({"response_format": {"type": "json_object"}}, Unsupported, "response_format"),
        ({"response_format": {"type": "yaml"}}, InvalidValue, "response_format.type"),
        ({"grammar": "root ::= x"}, Unsupported, "grammar"),
        ({"modalities": ["text", "audio"]}, Unsupported, "modalities"),
        ({"audio": {"voice": "x"}}, Unsupported, "audio"),
        ({"chat_template": "{{ x }}"}, Unsupported, "chat_template"),
        ({"logit_bias": {"word": 1}}, InvalidValue, "logit_bias"),
        ({"logit_bias": {"-1": 1}}, InvalidValue, "logit_bias"),
        ({"logit_bias": {"9999999999": 1}}, InvalidValue, "logit_bias"),
        ({"logit_bias": {"²": 1}}, InvalidValue, "logit_bias"),
        ({"logit_bias": {"1": True}}, InvalidValue, "logit_bias"),
        ({"chat_template_kwargs": {"enable_thinking": "no"}}, InvalidValue, "chat_template_kwargs.enable_thinking"),
        ({"chat_template_kwargs": {"thinking_budget": True}}, InvalidValue, "chat_template_kwargs.thinking_budget"),
        ({"chat_template_kwargs": {"thinking_budget": 2**40}}, InvalidValue, "chat_template_kwargs.thinking_budget"),
        (
            {"chat_template_kwargs": {"reasoning_effort": "x" * 999}},
            InvalidValue,
            "chat_template_kwargs.reasoning_effort",
        ),
    ],
)
def test_chats_that_are_refused(fields: dict[str, Any], error: type[Exception], param: str) -> None:
    with pytest.raises(error) as caught:
        chat(**fields)
    assert caught.value.fact("param") == param  # type: ignore[attr-defined]


def test_what_sillytavern_sends_when_everything_is_off() -> None:
    fields = {"top_k": 0, "logit_bias": {}, "stop": [], "logprobs": False, "tools": None, "n": None, "seed": None}
    off = {"grammar": "", "json_schema": {}, "response_format": None, "modalities": ["text"], "n_probs": 0}
    assert chat(**fields, **off) == chat(top_k=0)


def test_the_refusal_of_a_schema_has_the_words_that_langchain_looks_for() -> None:
    words = "'response_format' of type 'json_schema' is not supported with this model"
    with pytest.raises(Unsupported, match=words):
        chat(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {}}})


def test_template_options_are_those_of_the_list() -> None:
    kwargs = {"enable_thinking": False, "tokenize": True, "chat_template": "x", "thinking_budget": None}
    request = msgspec.convert({"messages": HELLO, "chat_template_kwargs": kwargs}, wire.ChatCompletionRequest)
    assert chat_to_core(request, "tiny").template_options == {"enable_thinking": False}
    assert ignored_options(request) == ("chat_template_kwargs.tokenize", "chat_template_kwargs.chat_template")
    assert chat(reasoning_effort="low").template_options == {"reasoning_effort": "low"}


@pytest.mark.parametrize(
    ("fields", "kept", "continued"),
    [
        ({}, 2, True),
        ({"add_generation_prompt": False}, 2, True),
        ({"continue_final_message": True, "add_generation_prompt": False}, 2, True),
        ({"add_generation_prompt": True}, 2, False),
        ({"continue_final_message": False}, 2, False),
    ],
)
def test_a_last_message_of_the_assistant_is_continued(fields: dict[str, Any], kept: int, continued: bool) -> None:
    work = chat(messages=[*HELLO, {"role": "assistant", "content": "Once"}], **fields)
    assert (len(work.messages), work.continue_final) == (kept, continued)


def test_an_empty_prefill_is_the_same_as_none() -> None:
    assert chat(messages=[*HELLO, {"role": "assistant", "content": ""}]) == chat()
    assert chat(messages=[{"role": "assistant"}]).continue_final is False


@pytest.mark.parametrize(
    ("messages", "fields", "error"),
    [
        (HELLO, {"continue_final_message": True}, InvalidValue),
        (HELLO, {"add_generation_prompt": False}, Unsupported),
        (
            [{"role": "assistant", "content": "x"}],
            {"continue_final_message": True, "add_generation_prompt": True},
            InvalidValue,
        ),
        (
            [{"role": "assistant", "content": "x"}],
            {"continue_final_message": False, "add_generation_prompt": False},
            Unsupported,
        ),
    ],
)
def test_contradictory_ends_of_the_prompt(messages: Any, fields: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        chat(messages=messages, **fields)


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
    body = chat_from_core(HEAD, answer)
    assert [choice.message.content for choice in body.choices] == ["x", "ab"]
    assert [choice.finish_reason for choice in body.choices] == ["length", "stop"]
    usage = body.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (7, 3, 10)
    assert usage.prompt_tokens_details.cached_tokens == 2


def test_a_job_that_ends_early_is_an_error() -> None:
    with pytest.raises(Cancelled):
        asyncio.run(collect(_events(TextStarted(prompt_tokens=1), *said("x")), Tally(2, per_prompt=2)))
