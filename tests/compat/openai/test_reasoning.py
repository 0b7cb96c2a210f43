"""The many ways to say how much is to be thought."""

from typing import Any

import msgspec
import pytest

from compat.openai import wire
from compat.openai.reasoning import Thought, ignored_options, reasoning_to_core, shows_reasoning
from server.core.errors import InvalidValue

OFF = Thought(options={"enable_thinking": False}, budget=0)
ON = Thought(options={"enable_thinking": True}, budget=None)


def read(**fields: Any) -> wire.ChatCompletionRequest:
    return msgspec.convert({"messages": [{"role": "user", "content": "hi"}], **fields}, wire.ChatCompletionRequest)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, Thought(options={}, budget=None)),
        ({"reasoning_effort": "low"}, Thought(options={"reasoning_effort": "low"}, budget=None)),
        ({"reasoning": {"effort": "high"}}, Thought(options={"reasoning_effort": "high"}, budget=None)),
        (
            {"reasoning_effort": "low", "reasoning": {"effort": "high"}},
            Thought(options={"reasoning_effort": "low"}, budget=None),
        ),
        ({"reasoning_effort": "none"}, OFF),
        ({"enable_thinking": False}, OFF),
        ({"enable_thinking": True}, ON),
        ({"thinking": {"type": "disabled"}}, OFF),
        ({"thinking": {"type": "enabled"}}, ON),
        ({"reasoning": {"enabled": False}}, OFF),
        ({"chat_template_kwargs": {"enable_thinking": False}}, OFF),
        ({"chat_template_kwargs": {"enable_thinking": True}, "enable_thinking": False}, ON),
        ({"thinking": {"type": "enabled", "budget_tokens": 9}}, Thought(options={"enable_thinking": True}, budget=9)),
        ({"thinking_budget": 5, "reasoning_budget": 6}, Thought(options={}, budget=5)),
        ({"reasoning_budget": 6}, Thought(options={}, budget=6)),
        ({"reasoning_budget": -1}, Thought(options={}, budget=None)),
        ({"reasoning_budget": 0}, Thought(options={}, budget=0)),
        ({"reasoning": {"max_tokens": 8}}, Thought(options={}, budget=8)),
        ({"chat_template_kwargs": {"thinking_budget": 4}}, Thought(options={"thinking_budget": 4}, budget=4)),
        ({"enable_thinking": False, "thinking_budget": 5}, OFF),
        ({"reasoning_format": "none"}, Thought(options={}, budget=None, split=False)),
        ({"reasoning_format": "deepseek"}, Thought(options={}, budget=None)),
    ],
)
def test_thinking(fields: dict[str, Any], expected: Thought) -> None:
    assert reasoning_to_core(read(**fields)) == expected


def test_template_options_are_those_of_the_list() -> None:
    given = {"enable_thinking": False, "tokenize": True, "chat_template": "x", "thinking_budget": None}
    assert reasoning_to_core(read(chat_template_kwargs=given)).options == {"enable_thinking": False}
    assert ignored_options(given) == ("chat_template_kwargs.tokenize", "chat_template_kwargs.chat_template")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"thinking": {"type": "much"}}, "thinking.type"),
        ({"reasoning_format": "xml"}, "reasoning_format"),
        ({"chat_template_kwargs": {"enable_thinking": "no"}}, "chat_template_kwargs.enable_thinking"),
    ],
)
def test_values_that_make_no_sense(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        reasoning_to_core(read(**fields))
    assert caught.value.fact("param") == param


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, True),
        ({"include_reasoning": False}, False),
        ({"include_reasoning": None}, True),
        ({"reasoning": {"exclude": True}}, False),
        ({"reasoning": {"exclude": False}}, True),
    ],
)
def test_whether_thoughts_are_told(fields: dict[str, Any], expected: bool) -> None:
    assert shows_reasoning(read(**fields)) is expected
