"""Requests to `/v1/responses` as core chats."""

from typing import Any

import msgspec
import pytest

from compat.openai.responses.convert import blank, response_to_core, response_without_effect
from compat.openai.responses.items import own_items
from compat.openai.responses.wire import ResponsesRequest
from server.core.errors import InvalidValue, Unsupported
from server.core.text import ChatRequest, JsonConstraint, Message, TextPart

F = {"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True}


def read(**fields: Any) -> ResponsesRequest:
    return msgspec.convert({"input": "hi", **fields}, ResponsesRequest)


def to_core(**fields: Any) -> ChatRequest:
    request = read(**fields)
    return response_to_core(request, own_items(request.input), "tiny")


def test_a_plain_request() -> None:
    assert to_core() == ChatRequest(model="tiny", messages=(Message(role="user", parts=(TextPart("hi"),)),))


def test_instructions_come_first() -> None:
    messages = to_core(instructions="be kind").messages
    assert [message.role for message in messages] == ["system", "user"]
    assert [message.role for message in to_core(instructions="x", input=None).messages] == ["system"]


def test_limits_and_sampling() -> None:
    work = to_core(max_output_tokens=7, temperature=0.5, top_k=3, seed=4, stop="x")
    assert (work.sampling.max_tokens, work.sampling.temperature, work.sampling.top_k) == (7, 0.5, 3)
    assert (work.sampling.seed, work.sampling.stop) == (4, ("x",))
    assert to_core(max_output_tokens=-1).sampling.max_tokens is None


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"format": {"type": "text"}}, None),
        ({"format": {"type": "json_object"}}, JsonConstraint(schema='{"type":"object"}', param="text.format")),
        (
            {"format": {"type": "json_schema", "name": "x", "strict": True, "schema": {"type": "array"}}},
            JsonConstraint(schema='{"type":"array"}', param="text.format"),
        ),
        ({"verbosity": "low"}, None),
    ],
)
def test_forms_of_the_text(fields: dict[str, Any], expected: Any) -> None:
    assert to_core(text=fields).constraint == expected


def test_tools_of_other_types_are_skipped_and_named() -> None:
    tools = [{"type": "web_search"}, F, {"type": "custom", "name": "patch"}, {"type": "web_search"}]
    work = to_core(tools=tools, tool_choice={"type": "function", "name": "f"}, parallel_tool_calls=False)
    assert [tool.name for tool in work.tools] == ["f"]
    assert (work.tool_choice, work.tool_name, work.parallel_tools) == ("named", "f", False)
    assert response_without_effect(read(tools=tools)) == ("tools.web_search", "tools.custom")
    nested = {"type": "function", "function": {"name": "g"}}
    assert [tool.name for tool in to_core(tools=[nested]).tools] == ["g"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"top_logprobs": 0}, None),
        ({"top_logprobs": 3}, 3),
        ({"include": ["message.output_text.logprobs"]}, 0),
        ({"include": ["message.output_text.logprobs"], "top_logprobs": 2}, 2),
        ({"include": ["reasoning.encrypted_content"]}, None),
    ],
)
def test_logprobs(fields: dict[str, Any], expected: int | None) -> None:
    assert to_core(**fields).logprobs == expected


def test_thinking() -> None:
    assert to_core(reasoning={"effort": "high"}).template_options == {"reasoning_effort": "high"}
    off = to_core(reasoning={"effort": "none"})
    assert (off.template_options, off.reasoning_budget) == ({"enable_thinking": False}, 0)


def test_values_without_effect_are_named() -> None:
    request = read(
        include=["reasoning.encrypted_content"],
        reasoning={"effort": "low", "summary": "auto"},
        text={"verbosity": "low"},
        samplers=["tfs_z"],
        chat_template_kwargs={"tokenize": True},
    )
    assert response_without_effect(request) == (
        "include.reasoning.encrypted_content",
        "chat_template_kwargs.tokenize",
        "samplers.tfs_z",
        "reasoning.summary",
        "text.verbosity",
    )
    assert response_without_effect(read(tools=[F], include=["message.output_text.logprobs"])) == ()


@pytest.mark.parametrize(
    ("fields", "error", "param"),
    [
        ({"input": None}, InvalidValue, "input"),
        ({"input": []}, InvalidValue, "input"),
        ({"background": True}, Unsupported, "background"),
        ({"conversation": "conv_1"}, Unsupported, "conversation"),
        ({"prompt": {"id": "p"}}, Unsupported, "prompt"),
        ({"context_management": [{}]}, Unsupported, "context_management"),
        ({"text": {"format": {"type": "yaml"}}}, InvalidValue, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, InvalidValue, "text.format.schema"),
        ({"text": {"format": {"type": "json_object"}}, "regex": "a"}, InvalidValue, "regex"),
        ({"tools": [{"type": "function"}]}, InvalidValue, "tools[0].name"),
        ({"tool_choice": "required", "tools": [{"type": "web_search"}]}, InvalidValue, "tool_choice"),
        ({"tool_choice": {"type": "web_search"}}, Unsupported, "tool_choice.type"),
    ],
)
def test_requests_that_are_refused(fields: dict[str, Any], error: type[Exception], param: str) -> None:
    with pytest.raises(error) as caught:
        to_core(**fields)
    assert caught.value.fact("param") == param  # type: ignore[attr-defined]


def test_the_response_tells_again_what_was_asked() -> None:
    request = read(
        instructions="be kind", metadata={"a": "b"}, tools=[{"type": "web_search"}, F], tool_choice="auto",
        temperature=0.5, top_p=0.9, max_output_tokens=5, user="me", reasoning={"effort": "low"},
        previous_response_id="resp_0", parallel_tool_calls=False, top_logprobs=2,
    )  # fmt: skip
    told = msgspec.to_builtins(blank(request, id="resp_1", model="tiny", created=5, store=True))
    assert {key: told[key] for key in ("id", "object", "created_at", "model", "status", "output")} == {
        "id": "resp_1",
        "object": "response",
        "created_at": 5,
        "model": "tiny",
        "status": "in_progress",
        "output": (),
    }
    assert told["tools"] == (F,) and told["metadata"] == {"a": "b"} and told["text"] == {"format": {"type": "text"}}
    assert (told["temperature"], told["top_p"], told["max_output_tokens"], told["user"]) == (0.5, 0.9, 5, "me")
    assert (told["previous_response_id"], told["parallel_tool_calls"], told["store"]) == ("resp_0", False, True)
    assert told["reasoning"]["effort"] == "low" and told["instructions"] == "be kind" and told["top_logprobs"] == 2
