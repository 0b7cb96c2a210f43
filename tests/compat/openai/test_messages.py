"""Conversations on the wire and in the core."""

from typing import Any

import msgspec
import pytest

from compat.openai import wire
from compat.openai.messages import messages_to_core
from server.core.errors import InvalidValue, Unsupported
from server.core.text import Message, PicturePart, TextPart, ToolCall

URL = "data:image/png;base64,cGljdHVyZQ=="
PICTURE = PicturePart(b"picture", "messages[0].content[0].image_url")


def convert(*messages: dict[str, Any]) -> tuple[Message, ...]:
    return messages_to_core(msgspec.convert(list(messages), list[wire.Message]))


def shown(address: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": address}


def text(role: str, *parts: str, **fields: Any) -> Message:
    return Message(role=role, parts=tuple(TextPart(part) for part in parts), **fields)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"role": "user", "content": "hi"}, text("user", "hi")),
        ({"role": "user", "content": ""}, text("user", "")),
        ({"role": "system", "content": "s", "name": "n"}, text("system", "s", name="n")),
        ({"role": "developer", "content": "s"}, text("system", "s")),
        (
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            text("user", "a", "b"),
        ),
        ({"role": "user", "content": []}, text("user")),
        ({"role": "user", "content": [{"type": "input_text", "text": "a"}]}, text("user", "a")),
        ({"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}, text("assistant", "no")),
        ({"role": "assistant", "refusal": "no"}, text("assistant", "no")),
        ({"role": "assistant", "content": None}, text("assistant")),
        ({"role": "assistant"}, text("assistant")),
        ({"role": "assistant", "content": "x", "reasoning_content": "r"}, text("assistant", "x", reasoning="r")),
        ({"role": "tool", "content": "42", "tool_call_id": "c1"}, text("tool", "42", tool_call_id="c1")),
        ({"role": "tool", "content": "42", "tool_call_id": None}, text("tool", "42")),
        ({"role": "user", "content": [shown(URL)]}, Message(role="user", parts=(PICTURE,))),
        ({"role": "user", "content": [shown({"url": URL, "detail": "low"})]}, Message(role="user", parts=(PICTURE,))),
        (
            {"role": "user", "content": [{"type": "input_image", "image_url": URL}]},
            Message(role="user", parts=(PICTURE,)),
        ),
    ],
)
def test_messages(message: dict[str, Any], expected: Message) -> None:
    assert convert(message) == (expected,)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [('{"a": 1}', '{"a": 1}'), ("not json", "not json"), ({"a": 1}, '{"a":1}'), ("", "{}"), (None, "{}")],
)
def test_arguments_of_calls_in_the_history(arguments: Any, expected: str) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    (message,) = convert({"role": "assistant", "content": None, "tool_calls": [call]})
    assert message.tool_calls == (ToolCall(id="c1", name="f", arguments=expected),)


def test_the_old_form_of_calls_gets_an_id_that_its_answer_has_too() -> None:
    asked, answered = convert(
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "42"},
    )
    identity = asked.tool_calls[0].id
    assert len(identity) == 9 and identity.isalnum()
    assert answered == text("tool", "42", name="f", tool_call_id=identity)


def test_calls_without_an_id_get_different_ones() -> None:
    call = {"function": {"name": "f", "arguments": "{}"}}
    messages = convert(*[{"role": "assistant", "tool_calls": [call, call]}] * 3)
    ids = [made.id for message in messages for made in message.tool_calls]
    assert len(set(ids)) == 6 and all(len(identity) == 9 for identity in ids)


@pytest.mark.parametrize(
    ("message", "error", "param"),
    [
        ({"role": "user", "content": None}, InvalidValue, "messages[1].content"),
        ({"role": "tool"}, InvalidValue, "messages[1].content"),
        ({"role": "user", "content": [{"type": "text"}]}, InvalidValue, "messages[1].content[0].text"),
        (
            {
                "role": "user",
                "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "x"}}],
            },
            InvalidValue,
            "messages[1].content[1].image_url",
        ),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": "https://example.org/a.png"}]},
            Unsupported,
            "messages[1].content[0].image_url",
        ),
        ({"role": "user", "content": [{"type": "image_url"}]}, InvalidValue, "messages[1].content[0].image_url"),
        ({"role": "user", "content": [{"type": "input_audio"}]}, Unsupported, "messages[1].content[0].type"),
    ],
)
def test_messages_that_are_refused(message: dict[str, Any], error: type[Exception], param: str) -> None:
    with pytest.raises(error) as caught:
        convert({"role": "user", "content": "first"}, message)
    assert caught.value.fact("param") == param  # type: ignore[attr-defined]
