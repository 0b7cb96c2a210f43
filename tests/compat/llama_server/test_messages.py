"""Conversations of `/apply-template`."""

from typing import Any

import msgspec
import pytest

from compat.llama_server import wire
from compat.llama_server.messages import template_to_core
from server.core.errors import BadRequest, InvalidValue, Unsupported
from server.core.text import ChatRequest

USER = {"role": "user", "content": "hi"}


def core(*messages: dict[str, Any], **fields: Any) -> ChatRequest:
    request = msgspec.convert({"messages": list(messages), **fields}, wire.TemplateRequest)
    return template_to_core(request, "tiny")


def test_a_conversation_with_tools() -> None:
    call = {"id": "c1", "function": {"name": "f", "arguments": {"a": 1}}}
    work = core(
        {"role": "developer", "content": "be kind"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": None, "tool_calls": [call], "reasoning_content": "hm"},
        {"role": "tool", "content": "1", "tool_call_id": "c1", "name": "f"},
        tools=[{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
        chat_template_kwargs={"enable_thinking": False},
    )
    assert [message.role for message in work.messages] == ["system", "user", "assistant", "tool"]
    assert len(work.messages[1].parts) == 2
    assert (work.messages[2].tool_calls[0].arguments, work.messages[2].reasoning) == ('{"a":1}', "hm")
    assert (work.messages[3].tool_call_id, work.messages[3].name) == ("c1", "f")
    assert work.tools[0].parameters == '{"type":"object"}'
    assert work.template_options == {"enable_thinking": False}


@pytest.mark.parametrize(
    ("last", "open_turn", "continued"),
    [
        (USER, None, False),
        (USER, True, False),
        ({"role": "assistant", "content": "x"}, None, True),
        ({"role": "assistant", "content": "x"}, False, True),
        ({"role": "assistant", "content": "x"}, True, False),
        ({"role": "assistant", "content": ""}, None, False),
        ({"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}, None, False),
    ],
)
def test_what_is_continued(last: Any, open_turn: bool | None, continued: bool) -> None:
    assert core(USER, last, add_generation_prompt=open_turn).continue_final is continued


@pytest.mark.parametrize(
    ("message", "fields", "error", "param"),
    [
        ({"role": "user"}, {}, InvalidValue, "messages[0].content"),
        ({"role": "user", "content": [{"type": "text"}]}, {}, InvalidValue, "messages[0].content[0].text"),
        ({"role": "user", "content": [{"type": "image_url"}]}, {}, InvalidValue, "messages[0].content[0].image_url"),
        ({"role": "user", "content": [{"type": "input_audio"}]}, {}, Unsupported, "messages[0].content[0].type"),
        (USER, {"add_generation_prompt": False}, Unsupported, "add_generation_prompt"),
    ],
)
def test_what_is_wrong(message: Any, fields: Any, error: type[BadRequest], param: str) -> None:
    with pytest.raises(error) as caught:
        core(message, **fields)
    assert caught.value.fact("param") == param
