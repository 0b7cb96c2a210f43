"""The events of a response, one by one."""

from itertools import count
from typing import Any

import msgspec
import pytest

from compat.openai.responses import output, wire
from compat.openai.responses.writer import Writer
from compat.openai.wire import ErrorDetail
from server.core.errors import Cancelled, ProtocolError
from server.core.image import StepDone
from server.core.jobs import Event, Loading, Waiting
from server.core.text import (
    ReasoningDelta,
    ScoresReady,
    TextDelta,
    TextFinished,
    TextStarted,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)
from tests.support.fake_service import answer, said


def writer(**fields: Any) -> Writer:
    numbers = count()
    blank = output.Response(
        id="resp_1",
        created_at=5,
        metadata={},
        model="tiny",
        reasoning=wire.Reasoning(),
        store=False,
        text=wire.TextConfig(),
    )
    return Writer(blank, lambda prefix: f"{prefix}{next(numbers)}", lambda: 9.5, **fields)


def told(one: Writer, *events: Event) -> list[Any]:
    """Return all events of a stream as clients see them."""
    made = [*one.start(), *(made for event in events for made in one.feed(event)), one.close()]
    return [msgspec.json.decode(msgspec.json.encode(event)) for event in made]


def kinds(events: list[Any]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


TEXT = ["output_item.added", "content_part.added", "output_text.delta", "output_text.delta", "output_text.done",
        "content_part.done", "output_item.done"]  # fmt: skip
FRAME = ["created", "in_progress"]


def test_the_sequence_of_a_text() -> None:
    events = told(writer(), Waiting(position=0), Loading(model="tiny"), *answer("Hello", " you"))
    assert kinds(events) == [*FRAME, *TEXT, "completed"]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    created = events[0]["response"]
    assert (created["status"], created["output"], created["usage"]) == ("in_progress", [], None)
    assert events[2]["item"] == {
        "type": "message", "id": "msg_0", "status": "in_progress", "role": "assistant", "content": []
    }  # fmt: skip
    part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    assert events[3]["part"] == part
    where = {"item_id": "msg_0", "output_index": 0, "content_index": 0}
    assert events[4] == {
        "type": "response.output_text.delta", "sequence_number": 4, **where, "delta": "Hello", "logprobs": []
    }  # fmt: skip
    assert events[6]["text"] == "Hello you" and {**events[6], **where} == events[6]
    assert events[7]["part"] == {**part, "text": "Hello you"}
    item = events[8]["item"]
    assert item["status"] == "completed" and item["content"] == [{**part, "text": "Hello you"}]
    done = events[9]["response"]
    assert (done["status"], done["output"], done["completed_at"], done["incomplete_details"]) == (
        "completed",
        [item],
        9,
        None,
    )
    assert done["usage"] == {
        "input_tokens": 5,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 2,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 7,
    }


def test_thoughts_text_and_calls_are_items_of_their_own() -> None:
    one = writer()
    events = told(
        one,
        TextStarted(prompt_tokens=5),
        ReasoningDelta(choice=0, text="h"),
        ReasoningDelta(choice=0, text="m"),
        TextDelta(choice=0, text="Yes"),
        ToolCallDelta(choice=0, index=0, id="call_1", name="f"),
        ToolCallDelta(choice=0, index=0, arguments='{"a":'),
        ToolCallDelta(choice=0, index=0, arguments=""),
        ToolCallDelta(choice=0, index=0, arguments="1}"),
        ToolCallDelta(choice=0, index=1, id="call_2", name="g", arguments="{}"),
        TextFinished(choice=0, reason="tool_calls", usage=Usage(completion_tokens=9, reasoning_tokens=2)),
    )
    assert kinds(events) == [
        *FRAME,
        "output_item.added", "content_part.added", "reasoning_text.delta", "reasoning_text.delta",
        "reasoning_text.done", "content_part.done", "output_item.done",
        "output_item.added", "content_part.added", "output_text.delta",
        "output_text.done", "content_part.done", "output_item.done",
        "output_item.added", "function_call_arguments.delta", "function_call_arguments.delta",
        "function_call_arguments.done", "output_item.done",
        "output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done",
        "completed",
    ]  # fmt: skip
    done = [event for event in events if event["type"] == "response.output_item.done"]
    assert [event["output_index"] for event in done] == [0, 1, 2, 3]
    assert [event["item"] for event in done] == events[-1]["response"]["output"]
    thoughts, message, first, second = (event["item"] for event in done)
    assert thoughts == {
        "type": "reasoning", "id": "rs_0", "status": "completed", "summary": [],
        "content": [{"type": "reasoning_text", "text": "hm"}],
    }  # fmt: skip
    assert message["content"][0]["text"] == "Yes"
    assert first == {
        "type": "function_call", "id": "fc_2", "status": "completed", "call_id": "call_1", "name": "f",
        "arguments": '{"a":1}',
    }  # fmt: skip
    assert (second["call_id"], second["arguments"]) == ("call_2", "{}")
    added = next(
        event for event in events if event["type"] == "response.output_item.added" and event["output_index"] == 2
    )
    assert added["item"] == {**first, "status": "in_progress", "arguments": ""}
    arguments = next(event for event in events if event["type"] == "response.function_call_arguments.done")
    assert (arguments["name"], arguments["arguments"], arguments["item_id"]) == ("f", '{"a":1}', "fc_2")
    assert one.response.usage is not None and one.response.usage.output_tokens_details.reasoning_tokens == 2


def test_an_answer_at_its_limit_is_incomplete() -> None:
    events = told(writer(), *answer("Hel", reason="length"))
    last = events[-1]
    assert last["type"] == "response.incomplete"
    assert last["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    assert (last["response"]["status"], last["response"]["output"][0]["status"]) == ("incomplete", "incomplete")


def test_an_answer_without_a_word_has_an_empty_message() -> None:
    events = told(writer(), *answer())
    assert kinds(events) == [*FRAME, *[kind for kind in TEXT if kind != "output_text.delta"], "completed"]
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == ""


def test_empty_pieces_make_no_events() -> None:
    one = writer()
    assert one.feed(TextDelta(choice=0, text="")) == one.feed(ReasoningDelta(choice=0, text="")) == []


def test_logprobs_are_told_in_deltas_and_in_the_whole() -> None:
    token = TokenLogprob(token=1, piece=b"x", logprob=-0.5)
    delta = TextDelta(choice=0, text="x", logprobs=(token,))
    expected = [{"token": "x", "logprob": -0.5, "bytes": [120], "top_logprobs": []}]
    events = told(writer(logprobs=True), delta, *said())
    assert [event["logprobs"] for event in events if "logprobs" in event] == [expected, expected]
    assert events[-1]["response"]["output"][0]["content"][0]["logprobs"] == expected
    assert told(writer(), delta, *said())[-1]["response"]["output"][0]["content"][0]["logprobs"] == []


def test_a_failure_keeps_what_was_whole() -> None:
    one = writer()
    one.start()
    for event in (TextDelta(choice=0, text="x"), ToolCallDelta(choice=0, index=0, id="c", name="f")):
        one.feed(event)
    detail = ErrorDetail(message="it died", type="server_error", code="worker_died")
    error, failed = (msgspec.to_builtins(event) for event in one.fail(detail))
    assert (error["type"], error["code"], error["message"], error["param"]) == ("error", "worker_died", "it died", None)
    assert failed["type"] == "response.failed" and failed["sequence_number"] == error["sequence_number"] + 1
    assert failed["response"]["status"] == "failed"
    assert failed["response"]["error"] == {"code": "worker_died", "message": "it died"}
    assert [item["type"] for item in failed["response"]["output"]] == ["message"]


def test_what_does_not_belong_here() -> None:
    for event in (StepDone(pass_index=0, step=1, steps=2), ScoresReady(first=0, scores=())):
        with pytest.raises(ProtocolError):
            writer().feed(event)
    with pytest.raises(ProtocolError):
        writer().feed(ToolCallDelta(choice=0, index=0, arguments="{}"))
    with pytest.raises(Cancelled):
        writer().close()
