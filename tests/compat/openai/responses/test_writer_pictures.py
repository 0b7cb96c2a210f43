"""The events of pictures in a response, among those of texts and calls."""

from typing import Any

import msgspec

from compat.openai.picture_tool.events import (
    CallBegins,
    CallFailed,
    PartialPicture,
    PictureBegins,
    PictureMade,
    Told,
)
from compat.openai.wire import ErrorDetail
from server.core.text import TextDelta, TextFinished, ToolCallDelta, Usage
from tests.compat.openai.responses.test_writer import FRAME, TEXT, kinds, told, writer

MADE = PictureMade(number=0, prompt="a cat", base64="aGk=", kind="jpeg", size="64x32", quality="low")
LOOK = PartialPicture(number=0, index=0, base64="eA==", size="64x32", quality="low")
END = TextFinished(choice=0, reason="stop", usage=Usage(completion_tokens=3))
ITEM = {
    "type": "image_generation_call", "id": "ig_0", "status": "completed", "result": "aGk=", "revised_prompt": "a cat",
    "action": "generate", "background": "opaque", "output_format": "jpeg", "quality": "low", "size": "64x32",
}  # fmt: skip
PICTURE = ["output_item.added", "image_generation_call.in_progress", "image_generation_call.generating"]
DONE = ["image_generation_call.completed", "output_item.done"]


def seen(*events: Told) -> list[Any]:
    return told(writer(), *events)  # type: ignore[arg-type]


def test_the_sequence_of_a_picture() -> None:
    events = seen(CallBegins(0), PictureBegins(0), LOOK, MADE, TextDelta(choice=0, text="Here."), END)
    more = [kind for kind in TEXT if kind != "output_text.delta"]
    more.insert(2, "output_text.delta")
    assert kinds(events) == [*FRAME, *PICTURE, "image_generation_call.partial_image", *DONE, *more, "completed"]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[2]["item"] == {
        "type": "image_generation_call", "id": "ig_0", "status": "in_progress", "result": None
    }  # fmt: skip
    assert all(event["item_id"] == "ig_0" and event["output_index"] == 0 for event in events[3:7])
    assert (events[5]["partial_image_index"], events[5]["partial_image_b64"]) == (0, "eA==")
    assert (events[5]["output_format"], events[5]["size"]) == ("png", "64x32")
    assert events[7]["item"] == ITEM
    picture, message = events[-1]["response"]["output"]
    assert (picture, message["type"]) == (ITEM, "message")


def test_a_picture_keeps_its_place_while_others_are_written() -> None:
    events = seen(
        TextDelta(choice=0, text="One"),
        CallBegins(0),
        CallBegins(1),
        ToolCallDelta(choice=0, index=0, id="call_1", name="f", arguments="{}"),
        PictureBegins(0),
        MADE,
        PictureBegins(1),
        msgspec.structs.replace(MADE, number=1, edited=True),
        END,
    )
    added = [(event["output_index"], event["item"]["type"]) for event in events if event["type"].endswith("item.added")]
    assert added == [
        (0, "message"), (1, "image_generation_call"), (2, "image_generation_call"), (3, "function_call"),
    ]  # fmt: skip
    done = [event["output_index"] for event in events if event["type"].endswith("item.done")]
    assert done == [0, 3, 1, 2]
    output = events[-1]["response"]["output"]
    assert [item["type"] for item in output] == [kind for _, kind in added]
    assert [item["status"] for item in output] == ["completed"] * 4
    assert (output[1]["action"], output[2]["action"]) == ("generate", "edit")


def test_a_call_that_failed() -> None:
    events = seen(CallBegins(0), CallFailed(0), END)
    assert kinds(events)[2:-1] == [*PICTURE[:2], "output_item.done"]
    (item,) = events[-1]["response"]["output"]
    assert (item["status"], item["result"]) == ("failed", None)


def test_a_call_that_the_limit_cuts_off() -> None:
    events = seen(CallBegins(0), msgspec.structs.replace(END, reason="length"))
    assert kinds(events)[2:] == [*PICTURE[:2], "output_item.done", "incomplete"]
    assert events[-1]["response"]["output"][0]["status"] == "failed"


def test_a_response_that_fails_while_a_picture_is_made() -> None:
    for events in ([CallBegins(0), PictureBegins(0)], [CallBegins(0)]):
        one = writer()
        one.start()
        for event in [TextDelta(choice=0, text="x"), *events]:
            one.feed(event)
        *_, failed = one.fail(ErrorDetail(message="no memory", type="server_error", code="out"))
        output = msgspec.to_builtins(failed)["response"]["output"]
        assert [item["status"] for item in output] == ["completed", "failed"][: len(events)]
