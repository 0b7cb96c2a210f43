"""Conversations from the wire to the core."""

from typing import Any

import pytest

from compat.anthropic.messages import messages_to_core, tools_to_core
from server.core.errors import BadRequest, InvalidValue, Unsupported
from server.core.text import Message, PicturePart, TextPart, ToolCall
from tests.compat.anthropic.door import TOOL, request

USE = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": "x"}}


def core(*messages: dict[str, Any], **fields: Any) -> tuple[Message, ...]:
    return messages_to_core(request(messages=list(messages), **fields))


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


def text(content: str) -> dict[str, Any]:
    return {"type": "text", "text": content}


def said(role: str, *texts: str, **fields: Any) -> Message:
    return Message(role=role, parts=tuple(TextPart(item) for item in texts), **fields)


@pytest.mark.parametrize(
    ("system", "first"),
    [
        ("be kind", said("system", "be kind")),
        ([text("a"), text("b")], said("system", "a", "b")),
        ([text("x-anthropic-billing-header: cc_version=1; cch=abc;"), text("b")], said("system", "b")),
        ("", said("user", "hi")),
        (None, said("user", "hi")),
        ([], said("user", "hi")),
    ],
)
def test_the_system_prompt_comes_first(system: Any, first: Message) -> None:
    assert core(user("hi"), system=system)[0] == first


def test_a_round_of_tools() -> None:
    told = core(
        user("look at x"),
        assistant([{"type": "thinking", "thinking": "hm", "signature": "s"}, text("I look"), USE]),
        user([{"type": "tool_result", "tool_use_id": "toolu_1", "content": [text("a"), text("b")]}, text("go on")]),
    )
    call = ToolCall(id="toolu_1", name="look", arguments='{"at":"x"}')
    assert told == (
        said("user", "look at x"),
        said("assistant", "I look", tool_calls=(call,), reasoning="hm"),
        said("tool", "a\nb", name="look", tool_call_id="toolu_1"),
        said("user", "go on"),
    )


@pytest.mark.parametrize(
    ("result", "text_"),
    [
        ({"content": "fine"}, "fine"),
        ({}, ""),
        ({"content": []}, ""),
        ({"content": "no such file", "is_error": True}, "Error: no such file"),
    ],
)
def test_results_of_tools(result: dict[str, Any], text_: str) -> None:
    told = core(user("x"), assistant([USE]), user([{"type": "tool_result", "tool_use_id": "toolu_1", **result}]))
    assert told[2:] == (said("tool", text_, name="look", tool_call_id="toolu_1"),)


def test_neighbours_of_one_role_become_one_message_but_results_of_tools_do_not() -> None:
    second = {**USE, "id": "toolu_2"}
    told = core(
        user("a"),
        user([text("b")]),
        assistant("c"),
        assistant([USE]),
        assistant([second]),
        user([{"type": "tool_result", "tool_use_id": name, "content": name} for name in ("toolu_1", "toolu_2")]),
    )
    assert [message.role for message in told] == ["user", "assistant", "tool", "tool"]
    assert told[0] == said("user", "a", "b")
    assert [call.id for call in told[1].tool_calls] == ["toolu_1", "toolu_2"]


def test_a_text_document_is_read() -> None:
    document = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "the text"}}
    assert core(user([document, text("sum up")])) == (said("user", "the text", "sum up"),)


@pytest.mark.parametrize(
    ("content", "error", "param"),
    [
        ([{"type": "image"}], InvalidValue, "messages[0].content[0].source"),
        (
            [{"type": "image", "source": {"type": "base64", "data": "x"}}],
            InvalidValue,
            "messages[0].content[0].source.data",
        ),
        (
            [{"type": "image", "source": {"type": "url", "url": "http://example.org/a.png"}}],
            Unsupported,
            "messages[0].content[0].source.url",
        ),
        (
            [{"type": "image", "source": {"type": "file", "file_id": "f"}}],
            Unsupported,
            "messages[0].content[0].source.type",
        ),
        ([{"type": "document", "source": {"type": "url"}}], Unsupported, "messages[0].content[0].type"),
        ([text("a"), {"type": "text"}], InvalidValue, "messages[0].content[1].text"),
        ([{"type": "tool_result", "tool_use_id": "t"}], InvalidValue, "messages[0].content[0].tool_use_id"),
        ([{"type": "tool_result"}], InvalidValue, "messages[0].content[0].tool_use_id"),
    ],
)
def test_blocks_that_are_refused(content: Any, error: type[BadRequest], param: str) -> None:
    with pytest.raises(error) as caught:
        core(user(content))
    assert caught.value.fact("param") == param


def picture(data: str) -> dict[str, Any]:
    return {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}


def test_pictures() -> None:
    (told,) = core(user([text("see"), picture("cGljdHVyZQ=="), text("well")]))
    seen = PicturePart(b"picture", "messages[0].content[1].source.data")
    assert told == Message(role="user", parts=(TextPart("see"), seen, TextPart("well")))


def test_pictures_in_results_of_tools() -> None:
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [picture("cGljdHVyZQ=="), text("a")]}
    told = core(user("x"), assistant([USE]), user([result]))[-1]
    seen = PicturePart(b"picture", "messages[2].content[0].content[0].source.data")
    assert told == Message(role="tool", parts=(TextPart("a"), seen), name="look", tool_call_id="toolu_1")


def test_a_bad_picture_in_a_result_is_refused_by_its_path() -> None:
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [picture("x")]}
    with pytest.raises(InvalidValue) as caught:
        core(user("x"), assistant([USE]), user([result]))
    assert caught.value.fact("param") == "messages[2].content[0].content[0].source.data"


@pytest.mark.parametrize(
    "message", [{"system": [picture("cGljdHVyZQ==")]}, {"messages": [assistant([picture("AAAA")])]}]
)
def test_only_users_and_tools_show_pictures(message: dict[str, Any]) -> None:
    with pytest.raises(Unsupported, match="image"):
        messages_to_core(request(**message))


def test_tools() -> None:
    (tool,) = tools_to_core(request(tools=[TOOL]))
    assert (tool.name, tool.description, tool.parameters) == ("look", "looks", '{"type":"object"}')
    with pytest.raises(Unsupported, match="bash_20250124"):
        tools_to_core(request(tools=[{"type": "bash_20250124", "name": "bash"}]))
    with pytest.raises(InvalidValue, match=r"tools\[0\].input_schema"):
        tools_to_core(request(tools=[{"name": "x"}]))
