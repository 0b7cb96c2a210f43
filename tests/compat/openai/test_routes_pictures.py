"""The tool `image_generation` in `/v1/chat/completions`: the picture is in the answer's message."""

import asyncio
import base64
import json
from typing import Any

import httpx
import openai
import pytest

from compat.openai.picture_tool.names import PICTURE, TYPE
from server.core.errors import OutOfMemory
from server.core.image import FileFormat, ImageRequest, ImageStarted
from server.core.jobs import CancelMode
from server.core.text import ChatRequest, TextPart
from tests.compat.openai.door import HELLO, app, chat, data_of
from tests.compat.openai.images.sent import picture
from tests.compat.openai.picture_tool.asked import CAT, FUNCTION, calls, service
from tests.support.asgi import Exchange, http_scope
from tests.support.fake_images import pictures, ready
from tests.support.fake_service import FakeService, answer, text_card

TOOL = {"type": TYPE}


def drawing(*, text: str = "", other: bool = False, said: str = CAT, kind: Any = "png") -> FakeService:
    house = service()
    house.script(*calls(said, text=text, other=other))
    house.script(*pictures(1, form=FileFormat(kind=kind)))
    house.script(*answer("Here it is."))
    return house


def file_in(shown: Any) -> bytes:
    head, _, data = shown["image_url"]["url"].partition(",")
    assert head.startswith("data:image/") and head.endswith(";base64")
    return base64.b64decode(data, validate=True)


def test_a_picture_in_a_plain_answer() -> None:
    house = drawing(text="Wait.")
    answered = chat(house, tools=[TOOL], tool_choice=TOOL)
    assert answered.status_code == 200, answered.text
    (choice,) = answered.json()["choices"]
    message = choice["message"]
    assert (message["content"], choice["finish_reason"]) == ("Wait.\n\nHere it is.", "stop")
    (shown,) = message["images"]
    assert (shown["index"], shown["type"]) == (0, "image_url")
    assert file_in(shown).startswith(b"\x89PNG")
    assert "tool_calls" not in message, "it has been answered here"
    assert answered.json()["usage"]["total_tokens"] == 18
    assert len(house.submissions) == 3


def test_a_picture_in_a_stream() -> None:
    tool = {**TOOL, "output_format": "webp", "size": "64x64"}
    answered = chat(
        drawing(text="Wait.", kind="webp"), tools=[tool], stream=True, stream_options={"include_usage": True}
    )
    *chunks, usage, done = data_of(answered.text)
    assert done == "[DONE]" and usage["usage"]["total_tokens"] == 18 and usage["choices"] == []
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0] == {"role": "assistant", "content": None}
    assert "".join(delta.get("content") or "" for delta in deltas) == "Wait.\n\nHere it is."
    ((shown,),) = [delta["images"] for delta in deltas if "images" in delta]
    assert shown["image_url"]["url"].startswith("data:image/webp;base64,") and file_in(shown)[8:12] == b"WEBP"
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks if chunk["choices"][0]["finish_reason"]] == [
        "stop"
    ]
    assert all("tool_calls" not in delta for delta in deltas)


def test_a_picture_alone_has_its_role_first() -> None:
    house = service()
    house.script(*calls(CAT))
    house.script(*pictures(1))
    house.script(*answer())
    *chunks, _ = data_of(chat(house, tools=[TOOL], stream=True).text)
    assert [list(chunk["choices"][0]["delta"]) for chunk in chunks] == [["role", "content"], ["images"], []]


def test_two_pictures_have_places() -> None:
    house = service()
    house.script(*calls(CAT, CAT))
    house.script(*pictures(1))
    house.script(*pictures(1))
    house.script(*answer("Two."))
    message = chat(house, tools=[TOOL]).json()["choices"][0]["message"]
    assert [shown["index"] for shown in message["images"]] == [0, 1]


def test_calls_of_other_functions_are_the_callers() -> None:
    answered = chat(drawing(other=True), tools=[TOOL, FUNCTION])
    (choice,) = answered.json()["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert [call["function"]["name"] for call in choice["message"]["tool_calls"]] == ["weather"]
    assert len(choice["message"]["images"]) == 1


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{**TOOL, "size": "huge"}]}, "tools[0].size"),
        ({"tools": [FUNCTION, {**TOOL, "model": "nobody"}]}, "tools[1].model"),
        ({"tools": [TOOL], "n": 2}, "n"),
        ({"tools": [TOOL], "tool_choice": {"type": "web_search"}}, "tool_choice.type"),
        ({"tool_choice": TOOL}, "tool_choice"),
    ],
)
def test_mistakes_are_told_before_anything_is_done(fields: dict[str, Any], param: str) -> None:
    house = service()
    answered = chat(house, **fields)
    assert (answered.status_code, answered.json()["error"]["param"]) == (400, param)
    assert house.submissions == []


def test_a_house_without_a_checkpoint_says_so() -> None:
    house = service(text_card())
    answered = chat(house, tools=[TOOL])
    assert answered.status_code == 400 and "no checkpoint" in answered.json()["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_picture_that_cannot_be_made_ends_the_answer(stream: bool) -> None:
    house = service()
    house.script(*calls(CAT, text="Wait."))
    house.script(OutOfMemory("no memory is left", device="cuda:0"))
    answered = chat(house, tools=[TOOL], stream=stream)
    if stream:
        *_, error = data_of(answered.text)
        assert error["error"]["message"] == "no memory is left"
    else:
        assert answered.status_code == 503


@pytest.mark.parametrize("sent", ["by the user", "by an answer", "in a shape that nobody knows"])
def test_the_newest_picture_is_changed(sent: str) -> None:
    photo = picture(640, 320)
    url = "data:image/png;base64," + base64.b64encode(photo).decode()
    if sent == "by the user":
        parts = [{"type": "text", "text": "make it blue"}, {"type": "image_url", "image_url": {"url": url}}]
        messages: list[Any] = [{"role": "user", "content": parts}]
    else:
        shown = [{"index": 0, "type": "image_url", "image_url": {"url": url}}] if sent == "by an answer" else ["aGk="]
        messages = [*HELLO, {"role": "assistant", "content": "Here.", "images": shown}, *HELLO]
    house = drawing(said=json.dumps({"prompt": "blue", "edit": True}))
    answered = chat(house, messages=messages, tools=[{**TOOL, "size": "64x64"}])
    assert answered.status_code == 200, answered.text
    asked, made, _ = (submission.work for submission in house.submissions)
    assert isinstance(asked, ChatRequest) and isinstance(made, ImageRequest)
    if sent == "in a shape that nobody knows":
        assert made.init is None
    else:
        assert made.init is not None and made.init.images == (photo,)
    if sent == "by the user":
        assert asked.messages[0].parts[1] == TextPart(PICTURE), "this model does not see"


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_ends_the_picture_and_nothing_follows(stream: bool) -> None:
    async def knock() -> None:
        house, never = service(), asyncio.Event()
        house.script(*calls(CAT))
        house.script(ImageStarted(passes=1, steps=9), never)
        body = {"messages": HELLO, "stream": stream, "tools": [TOOL]}
        exchange = Exchange([json.dumps(body).encode()])
        scope = http_scope("/v1/chat/completions", "POST")
        running = asyncio.create_task(app(house)(scope, exchange.receive, exchange.send))  # type: ignore[arg-type]
        while len(house.submissions) < 2:
            await asyncio.sleep(0)
        exchange.leave()
        await running
        assert [submission.cancels for submission in house.submissions] == [[], [CancelMode.ABANDON]]
        assert house.live() == ()
        never.set()
        await asyncio.sleep(0)

    asyncio.run(knock())


def test_the_openai_package_puts_the_pieces_together() -> None:
    house = drawing(text="Wait.")

    async def talking() -> None:
        http = httpx.AsyncClient(transport=httpx.ASGITransport(app=app(house)))
        async with (
            openai.AsyncOpenAI(base_url="http://hearth/v1", api_key="none", http_client=http, max_retries=0) as client,
            client.chat.completions.stream(model="tiny", messages=HELLO, tools=[TOOL]) as stream,  # type: ignore[list-item, arg-type]
        ):
            final = await stream.get_final_completion()
        message = final.choices[0].message
        assert message.content == "Wait.\n\nHere it is."
        (shown,) = message.images  # type: ignore[attr-defined]
        assert file_in(shown) == base64.b64decode(shown["image_url"]["url"].partition(",")[2])
        assert len(file_in(shown)) > len(ready().png)

    asyncio.run(talking())
