"""Requests on the wire and the core work they become."""

from typing import Any

import msgspec
import pytest

from compat.openai import wire
from compat.openai.convert import chat_to_core, completion_to_core, without_effect
from server.core.errors import InvalidValue, Unsupported
from server.core.text import AdapterScale, ChatRequest, CompletionRequest

HELLO = [{"role": "user", "content": "hi"}]


def chat(**fields: Any) -> ChatRequest:
    request = msgspec.convert({"messages": HELLO, **fields}, wire.ChatCompletionRequest)
    return chat_to_core(request, "tiny")


def completion(**fields: Any) -> CompletionRequest:
    return completion_to_core(msgspec.convert({"prompt": "p", **fields}, wire.CompletionRequest), "tiny", 16)


def test_a_chat_has_no_limit_of_its_own_and_a_completion_has_sixteen_tokens() -> None:
    assert chat().sampling.max_tokens is None
    assert completion().sampling.max_tokens == 16
    assert completion(max_tokens=None).sampling.max_tokens == 16
    assert completion(max_tokens=-1).sampling.max_tokens is None
    assert completion(n_predict=5).sampling.max_tokens == 5


def test_adapters_by_id_and_name() -> None:
    lora = [{"id": 2, "scale": 0.5}, {"id": "style"}]
    wanted = (
        AdapterScale(adapter=2, scale=0.5, param="lora[0].id"),
        AdapterScale(adapter="style", scale=0.0, param="lora[1].id"),
    )
    assert chat(lora=lora).adapters == completion(lora=lora).adapters == wanted
    for none in (None, []):
        assert chat(lora=none).adapters is completion(lora=none).adapters is None


@pytest.mark.parametrize("lora", [{"id": 0}, [{"scale": 1}], [{"id": -1}], [{"id": ""}], [{"id": 0, "scale": "1"}]])
def test_malformed_adapters(lora: Any) -> None:
    with pytest.raises(msgspec.ValidationError):
        chat(lora=lora)


def test_the_other_fields_of_a_completion() -> None:
    work = completion(n=3, echo=True, best_of=3, suffix="end")
    assert (work.model, work.choices, work.echo, work.best_of, work.suffix) == ("tiny", 3, True, 0, "end")
    assert completion(n=2, best_of=5).best_of == 5
    assert completion(suffix="").suffix is None


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"logprobs": None}, None),
        ({"logprobs": False}, None),
        ({"logprobs": 0}, 0),
        ({"logprobs": 5}, 5),
        ({"logprobs": True}, 0),
        ({"n_probs": 3}, 3),
        ({"n_probs": 0}, None),
        ({"logprobs": 1, "n_probs": 3}, 1),
    ],
)
def test_how_many_likely_tokens_a_completion_asks_for(fields: dict[str, Any], expected: int | None) -> None:
    assert completion(**fields).logprobs == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"logprobs": False, "top_logprobs": 0}, None),
        ({"logprobs": True}, 0),
        ({"logprobs": True, "top_logprobs": 20}, 20),
        ({"n_probs": 4}, 4),
        ({"n_probs": 0}, None),
    ],
)
def test_how_many_likely_tokens_a_chat_asks_for(fields: dict[str, Any], expected: int | None) -> None:
    assert chat(**fields).logprobs == expected


@pytest.mark.parametrize(
    ("fields", "error", "param"),
    [
        ({"prompt": [1, "a"]}, InvalidValue, "prompt[0]"),
        ({"prompt": ["a", []]}, InvalidValue, "prompt[1]"),
        ({"prompt": ["a"] * 2049}, InvalidValue, "prompt"),
        ({"prompt": ["a"] * 2048, "n": 2}, InvalidValue, "n"),
        ({"best_of": 1, "n": 2}, InvalidValue, "best_of"),
        ({"best_of": 3, "stream": True}, InvalidValue, "best_of"),
        ({"response_format": {"type": "yaml"}}, InvalidValue, "response_format.type"),
    ],
)
def test_completions_that_are_refused(fields: dict[str, Any], error: type[Exception], param: str) -> None:
    with pytest.raises(error) as caught:
        completion(**fields)
    assert caught.value.fact("param") == param  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("fields", "error", "param"),
    [
        ({"top_logprobs": 2}, InvalidValue, "top_logprobs"),
        ({"response_format": {"type": "yaml"}}, InvalidValue, "response_format.type"),
        ({"grammar": "a", "regex": "b"}, InvalidValue, "grammar"),
        ({"tools": [{"type": "custom"}]}, Unsupported, "tools[0].type"),
        ({"thinking": {"type": "much"}}, InvalidValue, "thinking.type"),
        ({"reasoning_format": "xml"}, InvalidValue, "reasoning_format"),
        ({"modalities": ["text", "audio"]}, Unsupported, "modalities"),
        ({"audio": {"voice": "x"}}, Unsupported, "audio"),
        ({"chat_template": "{{ x }}"}, Unsupported, "chat_template"),
        ({"logit_bias": {"-1": 1}}, InvalidValue, "logit_bias"),
        ({"logit_bias": {"9999999999": 1}}, InvalidValue, "logit_bias"),
        ({"logit_bias": {"": 1}}, InvalidValue, "logit_bias"),
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


def test_a_chat_carries_tools_form_and_thinking() -> None:
    function = {"name": "f", "parameters": {"type": "object"}}
    work = chat(
        tools=[{"type": "function", "function": function}],
        tool_choice={"type": "function", "function": {"name": "f"}},
        parallel_tool_calls=True,
        response_format={"type": "json_object"},
        reasoning_effort="high",
        thinking_budget=7,
        reasoning_format="none",
    )
    assert ([tool.name for tool in work.tools], work.tool_choice, work.tool_name) == (["f"], "named", "f")
    assert work.constraint is not None and work.constraint.param == "response_format"
    assert (work.template_options, work.reasoning_budget) == ({"reasoning_effort": "high"}, 7)
    assert work.split_reasoning is False


def test_values_without_effect_are_named() -> None:
    body = {"messages": HELLO, "samplers": ["tfs_z", "top_k"], "chat_template_kwargs": {"tokenize": True}}
    request = msgspec.convert(body, wire.ChatCompletionRequest)
    assert without_effect(request) == ("chat_template_kwargs.tokenize", "samplers.tfs_z")
    assert without_effect(msgspec.convert({"prompt": "p"}, wire.CompletionRequest)) == ()
