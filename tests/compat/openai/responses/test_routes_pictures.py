"""The tool `image_generation` in `/v1/responses`: jobs, items, the store, refusals, and clients that leave."""

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest

from compat.openai import ImagesSettings
from compat.openai.picture_tool.names import PICTURE, SHOWN, TYPE
from server.core.errors import OutOfMemory
from server.core.image import ImageRequest, ImageStarted
from server.core.jobs import CancelMode
from server.core.text import ChatRequest, PicturePart, TextPart, ToolCall
from tests.compat.openai.door import app, post
from tests.compat.openai.images.sent import card, picture
from tests.compat.openai.picture_tool.asked import CAT, calls, service
from tests.compat.openai.responses.test_routes import Talk, create, events_of
from tests.support.asgi import Exchange, http_scope
from tests.support.fake_images import pictures
from tests.support.fake_service import FakeService, answer, text_card

TOOL = {"type": TYPE}
FORCED = {"tools": [TOOL], "tool_choice": TOOL}


def drawing(house: FakeService | None = None, said: str = CAT) -> FakeService:
    """Return a service whose next three jobs are a chat that asks for a picture, the picture, and a chat."""
    house = house or service()
    house.script(*calls(said))
    house.script(*pictures(1))
    house.script(*answer("Here it is."))
    return house


def url(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()


def test_a_picture_in_a_plain_answer() -> None:
    house = drawing()
    answered = create(house, **FORCED)
    assert answered.status_code == 200 and "x-hearth-ignored" not in answered.headers
    body = answered.json()
    made, message = body["output"]
    assert (made["type"], made["status"], made["revised_prompt"]) == ("image_generation_call", "completed", "a cat")
    assert base64.b64decode(made["result"]).startswith(b"\x89PNG")
    assert message["content"][0]["text"] == "Here it is."
    assert body["usage"]["input_tokens"] == 12 and body["usage"]["output_tokens"] == 6
    assert (body["tools"], body["tool_choice"]) == ([TOOL], TOOL)
    first = house.submissions[0].work
    assert isinstance(first, ChatRequest)
    assert (first.tool_choice, first.tool_name, [tool.name for tool in first.tools]) == ("named", TYPE, [TYPE])


def test_a_picture_in_a_stream() -> None:
    tool = {**TOOL, "size": "64x64", "quality": "low", "partial_images": 1, "output_format": "jpeg"}
    events = events_of(create(drawing(), stream=True, tools=[tool]).text)
    names = [event["type"].removeprefix("response.") for event in events]
    assert names[2:7] == [
        "output_item.added", "image_generation_call.in_progress", "image_generation_call.generating",
        "image_generation_call.completed", "output_item.done",
    ]  # fmt: skip
    assert names[-1] == "completed"
    assert events[6]["item"] == events[-1]["response"]["output"][0]
    assert events[-1]["response"]["tools"] == [tool]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, ("auto", "")),
        ("required", ("required", "")),
        (TOOL, ("named", TYPE)),
        ({"type": "allowed_tools", "mode": "required", "tools": [TOOL]}, ("required", "")),
    ],
)
def test_whether_a_picture_must_be_asked_for(choice: Any, expected: tuple[str, str]) -> None:
    house = drawing()
    tools = [{"type": "function", "name": "f"}, TOOL]
    assert create(house, tools=tools, tool_choice=choice).status_code == 200
    first, _, second = (submission.work for submission in house.submissions)
    assert isinstance(first, ChatRequest) and isinstance(second, ChatRequest)
    assert (first.tool_choice, first.tool_name) == expected
    assert second.tool_choice == "auto", "it has been asked for"


def test_a_model_that_may_not_ask() -> None:
    house = service()
    house.script(*answer("No."))
    assert create(house, tools=[TOOL], tool_choice="none").status_code == 200
    assert len(house.submissions) == 1


def test_no_more_than_the_request_says() -> None:
    house = service()
    house.script(*calls(CAT, CAT))
    house.script(*pictures(1))
    house.script(*answer("One."))
    body = create(house, tools=[TOOL], max_tool_calls=1).json()
    assert [item.get("status") for item in body["output"]] == ["completed", "failed", "completed"]
    assert body["max_tool_calls"] == 1


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{**TOOL, "size": "huge"}]}, "tools[0].size"),
        ({"tools": [{**TOOL, "size": 5}]}, "tools[0].size"),
        ({"tools": [{**TOOL, "partial_images": 9}]}, "tools[0].partial_images"),
        ({"tools": [{**TOOL, "background": "transparent"}]}, "tools[0].background"),
        ({"tools": [{**TOOL, "model": "nobody"}]}, "tools[0].model"),
        ({"tools": [{**TOOL, "action": "edit"}]}, "tools[0].action"),
        ({"tools": [TOOL, TOOL]}, "tools[1].type"),
        ({"tools": [TOOL, {"type": "function", "name": TYPE}]}, "tools[0].type"),
        ({"tool_choice": TOOL}, "tool_choice"),
        ({"tools": [TOOL], "max_tool_calls": 0}, "max_tool_calls"),
        ({"tools": [TOOL], "input": [{"type": "image_generation_call", "result": "?"}]}, "input[0].result"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_mistakes_are_told_before_anything_is_done(fields: dict[str, Any], param: str, stream: bool) -> None:
    house = service()
    answered = create(house, stream=stream, **fields)
    assert (answered.status_code, answered.json()["error"]["param"]) == (400, param)
    assert house.submissions == []


def test_a_house_without_a_checkpoint_says_so() -> None:
    house = service(text_card())
    answered = create(house, **FORCED)
    assert answered.status_code == 400
    error = answered.json()["error"]
    assert error["param"] == "tools[0].type" and "no checkpoint" in error["message"]
    assert house.submissions == []


def test_a_checkpoint_by_name_and_by_the_settings() -> None:
    cards = text_card(), card("a"), card("b"), card("c")
    for name, expected in (("c", "c"), ("gpt-image-1", "b"), (None, "b")):
        house = drawing(service(*cards))
        body = {"input": "hi", "tools": [{**TOOL, "model": name}], "tool_choice": TOOL}
        assert post(house, "/v1/responses", body, images=ImagesSettings(default_model="b")).status_code == 200
        assert house.submissions[1].work.model == expected


@pytest.mark.parametrize("stream", [False, True])
def test_a_picture_that_cannot_be_made_ends_the_answer(stream: bool) -> None:
    house = service()
    house.script(*calls(CAT))
    house.script(OutOfMemory("no memory is left", device="cuda:0"))
    answered = create(house, stream=stream, **FORCED)
    if stream:
        error, failed = events_of(answered.text)[-2:]
        assert (error["type"], error["message"]) == ("error", "no memory is left")
        assert failed["response"]["status"] == "failed"
        assert failed["response"]["output"][0]["status"] == "failed"
    else:
        assert (answered.status_code, answered.json()["error"]["message"]) == (503, "no memory is left")


def test_a_conversation_goes_on_behind_a_picture(tmp_path: Path) -> None:
    house = drawing()
    talk = Talk(tmp_path / "responses.sqlite3", house)
    first = talk.say("draw a cat", **FORCED)
    assert talk("GET", f"/{first['id']}").json() == first
    house.script(*calls(json.dumps({"prompt": "a blue cat", "edit": True})))
    house.script(*pictures(1))
    house.script(*answer("Blue."))
    second = talk.say("make it blue", previous_response_id=first["id"], tools=[TOOL])
    work = house.submissions[3].work
    assert isinstance(work, ChatRequest)
    user, asked, result, said, _ = work.messages
    assert asked.tool_calls == (ToolCall(id="p00000001", name=TYPE, arguments=CAT),)
    assert (user.role, result.tool_call_id, result.parts) == ("user", "p00000001", (TextPart(SHOWN),))
    assert said.parts == (TextPart("Here it is."),)
    change = house.submissions[4].work
    assert isinstance(change, ImageRequest) and change.init is not None
    assert change.init.images == (base64.b64decode(first["output"][0]["result"]),)
    assert second["output"][0]["action"] == "edit"


@pytest.mark.parametrize("known", [True, False])
def test_a_picture_can_be_referred_to_without_itself(known: bool, tmp_path: Path) -> None:
    house = drawing()
    talk = Talk(tmp_path / "responses.sqlite3" if known else None, house)
    first = talk.say("draw a cat", **FORCED)
    house.script(*calls(CAT))
    house.script(*pictures(1))
    house.script(*answer("Again."))
    sent = [{"type": "image_generation_call", "id": first["output"][0]["id"]}, {"role": "user", "content": "again"}]
    answered = talk("POST", "", {"input": sent, "tools": [{**TOOL, "action": "edit" if known else "auto"}]})
    assert answered.status_code == 200, answered.text
    change = house.submissions[4].work
    assert isinstance(change, ImageRequest) and (change.init is not None) is known


def test_items_come_back_without_a_store() -> None:
    house = drawing()
    first = create(house, **FORCED).json()
    house.script(*answer("Fine."))
    items = [{"role": "user", "content": "draw"}, *first["output"], {"role": "user", "content": "thanks"}]
    assert create(house, input=items).status_code == 200
    work = house.last
    assert isinstance(work, ChatRequest)
    assert [message.role for message in work.messages] == ["user", "assistant", "tool", "assistant", "user"]


def test_the_users_own_picture_is_changed() -> None:
    house = drawing(said=json.dumps({"prompt": "a blue cat"}))
    photo = picture(640, 320)
    parts = [{"type": "input_text", "text": "make it blue"}, {"type": "input_image", "image_url": url(photo)}]
    tool = {**TOOL, "action": "edit", "size": "128x64"}
    answered = create(house, input=[{"role": "user", "content": parts}], tools=[tool])
    assert answered.status_code == 200, answered.text
    chat, change, _ = (submission.work for submission in house.submissions)
    assert isinstance(chat, ChatRequest) and isinstance(change, ImageRequest) and change.init is not None
    assert change.init.images == (photo,)
    assert chat.messages[0].parts[1] == TextPart(PICTURE), "this model does not see"
    house = drawing(service(text_card(projector="/x.gguf"), card()))
    assert create(house, input=[{"role": "user", "content": parts}], tools=[tool]).status_code == 200
    first = house.submissions[0].work
    assert isinstance(first, ChatRequest) and isinstance(first.messages[0].parts[1], PicturePart)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_ends_the_picture_and_nothing_follows(stream: bool, tmp_path: Path) -> None:
    async def knock() -> None:
        house, never = service(), asyncio.Event()
        house.script(*calls(CAT))
        house.script(ImageStarted(passes=1, steps=9), never)
        exchange = Exchange([json.dumps({"input": "hi", "stream": stream, **FORCED}).encode()])
        asked = app(house, responses_file=str(tmp_path / "file"))
        running = asyncio.create_task(asked(http_scope("/v1/responses", "POST"), exchange.receive, exchange.send))  # type: ignore[arg-type]
        while len(house.submissions) < 2:
            await asyncio.sleep(0)
        exchange.leave()
        await running
        assert [submission.cancels for submission in house.submissions] == [[], [CancelMode.ABANDON]]
        assert house.live() == ()
        never.set()
        await asyncio.sleep(0)

    asyncio.run(knock())
    assert not (tmp_path / "file").exists()
