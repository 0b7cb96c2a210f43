"""Items of the input and the messages they become."""

from typing import Any

import msgspec
import pytest

from compat.openai.picture_tool.names import FAILED, SHOWN, TYPE
from compat.openai.responses.items import items_to_messages, last_picture, own_items, remembered
from compat.openai.responses.wire import Item
from server.core.errors import InvalidValue, Unsupported
from server.core.text import Message, PicturePart, TextPart, ToolCall


def convert(*items: dict[str, Any]) -> tuple[Message, ...]:
    return items_to_messages(own_items(msgspec.convert(list(items), list[Item])))


def text(role: str, *parts: str, **fields: Any) -> Message:
    return Message(role=role, parts=tuple(TextPart(part) for part in parts), **fields)


USER = {"role": "user", "content": "hi"}
CALL = {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"}
OTHER = {"type": "function_call", "call_id": "call_2", "name": "g", "arguments": '{"a":1}', "id": "fc_2"}
THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]}
SUMMARY = {
    "type": "reasoning",
    "summary": [{"type": "summary_text", "text": "a"}, {"type": "summary_text", "text": "b"}],
}
SAID = {
    "type": "message",
    "role": "assistant",
    "id": "msg_1",
    "status": "completed",
    "content": [{"type": "output_text", "text": "Yes", "annotations": [], "logprobs": []}],
}
RESULT = {"type": "function_call_output", "call_id": "call_1", "output": "42"}
DRAWN = {
    "type": "image_generation_call",
    "id": "ig_1",
    "status": "completed",
    "result": "aGk=",
    "revised_prompt": "a cat",
}
PHOTO = {"role": "user", "content": [{"type": "input_image", "image_url": "data:image/png;base64,eW8="}]}
F = ToolCall(id="call_1", name="f", arguments="{}")
G = ToolCall(id="call_2", name="g", arguments='{"a":1}')


def drawn_at(number: int, prompt: str = "a cat") -> ToolCall:
    return ToolCall(id=f"p{number:08d}", name=TYPE, arguments=f'{{"prompt":"{prompt}"}}')


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([USER], [text("user", "hi")]),
        ([{"role": "developer", "content": "s"}], [text("system", "s")]),
        ([{"type": "message", "role": "system", "content": "s"}], [text("system", "s")]),
        (
            [{"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]}],
            [text("user", "a", "b")],
        ),
        ([SAID], [text("assistant", "Yes")]),
        ([{"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}], [text("assistant", "no")]),
        ([{"role": "assistant"}], [text("assistant")]),
        ([THOUGHT, SAID], [text("assistant", "Yes", reasoning="hm")]),
        ([SUMMARY, SAID], [text("assistant", "Yes", reasoning="a\nb")]),
        ([THOUGHT, CALL], [text("assistant", tool_calls=(F,), reasoning="hm")]),
        ([THOUGHT, SAID, CALL], [text("assistant", "Yes", tool_calls=(F,), reasoning="hm")]),
        ([CALL, OTHER, RESULT], [text("assistant", tool_calls=(F, G)), text("tool", "42", tool_call_id="call_1")]),
        (
            [THOUGHT, CALL, RESULT, SUMMARY, OTHER],
            [
                text("assistant", tool_calls=(F,), reasoning="hm"),
                text("tool", "42", tool_call_id="call_1"),
                text("assistant", tool_calls=(G,), reasoning="a\nb"),
            ],
        ),
        (
            [THOUGHT, CALL, SUMMARY, OTHER],
            [
                text("assistant", tool_calls=(F,), reasoning="hm"),
                text("assistant", tool_calls=(G,), reasoning="a\nb"),
            ],
        ),
        ([USER, CALL], [text("user", "hi"), text("assistant", tool_calls=(F,))]),
        ([USER, THOUGHT], [text("user", "hi")]),
        ([{"type": "reasoning", "summary": []}, SAID], [text("assistant", "Yes")]),
        (
            [{**RESULT, "output": [{"type": "input_text", "text": "4"}, {"type": "input_text", "text": "2"}]}],
            [text("tool", "4", "2", tool_call_id="call_1")],
        ),
        (
            [USER, SAID, DRAWN, {**DRAWN, "status": "failed"}, SAID],
            [
                text("user", "hi"),
                text("assistant", "Yes", tool_calls=(drawn_at(2),)),
                text("tool", SHOWN, tool_call_id="p00000002"),
                text("assistant", tool_calls=(drawn_at(3),)),
                text("tool", FAILED, tool_call_id="p00000003"),
                text("assistant", "Yes"),
            ],
        ),
        (
            [THOUGHT, {"type": "image_generation_call", "id": "ig_1"}],
            [
                text("assistant", tool_calls=(drawn_at(1, ""),), reasoning="hm"),
                text("tool", SHOWN, tool_call_id="p00000001"),
            ],
        ),
        (
            [{**CALL, "arguments": "not json"}],
            [text("assistant", tool_calls=(ToolCall(id="call_1", name="f", arguments="not json"),))],
        ),
    ],
)
def test_items(items: list[dict[str, Any]], expected: list[Message]) -> None:
    assert convert(*items) == tuple(expected)


def test_a_text_is_what_a_user_says() -> None:
    assert items_to_messages(own_items("hi")) == (text("user", "hi"),)
    assert own_items(None) == []


@pytest.mark.parametrize(
    ("item", "error", "param"),
    [
        ({"type": "web_search_call"}, Unsupported, "input[1].type"),
        ({"type": "item_reference", "id": "msg_1"}, Unsupported, "input[1].type"),
        ({}, InvalidValue, "input[1].role"),
        ({"role": "tool", "content": "x"}, InvalidValue, "input[1].role"),
        ({"role": "user"}, InvalidValue, "input[1].content"),
        ({"role": "user", "content": [{"type": "input_text"}]}, InvalidValue, "input[1].content[0].text"),
        ({"role": "user", "content": [{"type": "input_image"}]}, InvalidValue, "input[1].content[0].image_url"),
        (
            {"role": "user", "content": [{"type": "input_image", "file_id": "file-1"}]},
            Unsupported,
            "input[1].content[0].file_id",
        ),
        ({"role": "user", "content": [{"type": "input_audio"}]}, Unsupported, "input[1].content[0].type"),
        ({**CALL, "name": None}, InvalidValue, "input[1].name"),
        ({**CALL, "call_id": ""}, InvalidValue, "input[1].call_id"),
        ({**RESULT, "call_id": None}, InvalidValue, "input[1].call_id"),
        ({**RESULT, "output": None}, InvalidValue, "input[1].output"),
        ({**RESULT, "output": [{"type": "input_file"}]}, Unsupported, "input[1].output[0].type"),
    ],
)
def test_items_that_are_refused(item: dict[str, Any], error: type[Exception], param: str) -> None:
    with pytest.raises(error) as caught:
        convert(USER, item)
    assert caught.value.fact("param") == param  # type: ignore[attr-defined]


def test_what_is_remembered_has_type_id_and_parts() -> None:
    items = own_items(msgspec.convert([USER, {"role": "assistant", "content": "x"}, CALL, OTHER], list[Item]))
    kept = msgspec.to_builtins(remembered(items, lambda prefix: prefix + "new"))
    assert kept == [
        {
            "type": "message",
            "id": "msg_new",
            "status": "completed",
            "role": "user",
            "content": [{"type": "input_text", "text": "hi"}],
        },
        {
            "type": "message",
            "id": "msg_new",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "x"}],
        },
        {"status": "completed", **CALL, "id": "fc_new"},
        {"status": "completed", **OTHER},
    ]
    again = [(item, "") for item in remembered(items, lambda prefix: prefix + "new")]
    assert items_to_messages(again) == items_to_messages(items)


def test_pictures_of_users_and_of_tools() -> None:
    url = "data:image/png;base64,cGljdHVyZQ=="
    part = {"type": "input_image", "image_url": url, "detail": "auto"}
    user, tool = convert({"role": "user", "content": [part]}, {**RESULT, "output": [part]})
    assert user.parts == (PicturePart(b"picture", "input[0].content[0].image_url"),)
    assert tool.parts == (PicturePart(b"picture", "input[1].output[0].image_url"),)


def test_a_picture_is_remembered_as_it_came() -> None:
    part = {"type": "input_image", "image_url": "data:image/png;base64,cGljdHVyZQ==", "detail": "low"}
    items = own_items(msgspec.convert([{"role": "user", "content": [part]}], list[Item]))
    (kept,) = msgspec.to_builtins(remembered(items, lambda prefix: prefix + "new"))
    assert kept["content"] == [part]


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([], None),
        ([USER, SAID], None),
        ([DRAWN, USER], b"hi"),
        ([{**DRAWN, "result": "eW8="}, DRAWN, {**DRAWN, "result": None}], b"hi"),
        ([DRAWN, PHOTO, USER], b"yo"),
        ([PHOTO, DRAWN], b"hi"),
    ],
)
def test_the_newest_picture(items: list[dict[str, Any]], expected: bytes | None) -> None:
    assert last_picture(own_items(msgspec.convert(items, list[Item]))) == expected


def test_a_picture_that_is_none() -> None:
    with pytest.raises(InvalidValue) as caught:
        last_picture(own_items(msgspec.convert([USER, {**DRAWN, "result": "?"}], list[Item])))
    assert caught.value.fact("param") == "input[1].result"
