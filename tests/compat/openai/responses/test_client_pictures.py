"""The real `openai` package asks for pictures by `/v1/responses`, and its types are given what they demand."""

import base64
from typing import Any

import openai
from openai.types.responses.response_output_item import ImageGenerationCall

from compat.openai.picture_tool.names import TYPE
from server.core.image import ImageFinished, ImageStarted, Preview, StepDone
from tests.compat.openai.picture_tool.asked import CAT, calls, service
from tests.compat.openai.responses.test_client import talk
from tests.support.fake_images import pictures, ready, tiny_png
from tests.support.fake_service import FakeService, answer

TOOL: Any = {"type": TYPE, "partial_images": 1, "quality": "low", "size": "auto", "output_format": "png"}


def drawing() -> FakeService:
    house = service()
    house.script(*calls(CAT))
    steps: list[Any] = [StepDone(pass_index=0, step=6, steps=12), Preview(pass_index=0, png=tiny_png(3))]
    house.script(ImageStarted(passes=1, steps=12), *steps, ready(), ImageFinished(reason="complete"))
    house.script(*answer("Here."))
    return house


def test_create() -> None:
    async def talking(client: openai.AsyncOpenAI) -> None:
        response = await client.responses.create(
            model="tiny", input="draw a cat", tools=[TOOL], tool_choice={"type": TYPE}
        )
        made, _ = response.output
        assert isinstance(made, ImageGenerationCall) and made.status == "completed" and made.result is not None
        assert base64.b64decode(made.result).startswith(b"\x89PNG")
        assert response.output_text == "Here."
        type(response).model_validate(response.model_dump())
        house.script(*answer("Yes."))
        again: Any = [{"role": "user", "content": "draw"}, made.to_dict(), {"role": "user", "content": "Is it a cat?"}]
        assert (await client.responses.create(model="tiny", input=again)).output_text == "Yes."

    house = drawing()
    talk(house, talking)


def test_create_streamed() -> None:
    seen: list[str] = []

    async def talking(client: openai.AsyncOpenAI) -> None:
        stream = await client.responses.create(model="tiny", input="draw", tools=[TOOL], stream=True)
        async for event in stream:
            type(event).model_validate(event.model_dump())
            seen.append(event.type)
            if event.type == "response.image_generation_call.partial_image":
                assert base64.b64decode(event.partial_image_b64) == tiny_png(3)

    talk(drawing(), talking)
    pictures_of = [name for name in seen if "image_generation_call" in name]
    assert pictures_of == [
        f"response.image_generation_call.{name}" for name in ("in_progress", "generating", "partial_image", "completed")
    ]


def test_the_stream_helper() -> None:
    async def talking(client: openai.AsyncOpenAI) -> None:
        async with client.responses.stream(model="tiny", input="draw", tools=[TOOL]) as stream:
            names = [event.type async for event in stream]
            final = await stream.get_final_response()
        assert names.count("response.output_item.done") == 2
        made, message = final.output
        assert made.type == "image_generation_call" and message.type == "message"
        assert made.result is not None and final.output_text == "Here."

    talk(drawing(), talking)


def test_the_stream_helper_with_calls_of_ones_own() -> None:
    house = service()
    house.script(*calls(CAT, other=True))
    house.script(*pictures(1))
    weather: Any = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": False}

    async def talking(client: openai.AsyncOpenAI) -> None:
        async with client.responses.stream(model="tiny", input="draw", tools=[TOOL, weather]) as stream:
            final = await stream.get_final_response()
        made, call = final.output
        assert made.type == "image_generation_call" and made.status == "completed"
        assert call.type == "function_call" and (call.name, call.arguments) == ("weather", "{}")

    talk(house, talking)
