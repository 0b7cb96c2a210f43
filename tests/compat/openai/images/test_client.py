"""The real `openai` package against the picture routes."""

import asyncio
import base64
import io
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import openai
import pytest
from PIL import Image

from server.core.errors import WorkerDied
from server.core.image import ImageRequest, ImageStarted, Preview, StepDone
from tests.compat.openai.door import app
from tests.compat.openai.images.sent import card, hole, picture
from tests.support.fake_images import pictures, ready, tiny_png
from tests.support.fake_service import FakeService

Talk = Callable[[openai.AsyncOpenAI, httpx.AsyncClient], Awaitable[None]]


def talk(service: FakeService, talking: Talk) -> None:
    async def run() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app(service))) as http:
            client = openai.AsyncOpenAI(base_url="http://hearth/v1", api_key="none", http_client=http, max_retries=0)
            await talking(client, http)

    asyncio.run(run())


def service_with(*steps: Any) -> FakeService:
    service = FakeService(card())
    if steps:
        service.script(*steps)
    return service


def last(service: FakeService) -> ImageRequest:
    assert isinstance(service.last, ImageRequest)
    return service.last


def test_generate_gives_base64_unless_told_otherwise() -> None:
    service = service_with(*pictures(2))

    async def talking(client: openai.AsyncOpenAI, _: httpx.AsyncClient) -> None:
        made = await client.images.generate(model="gpt-image-1", prompt="a cat", n=2, size="auto", quality="high")
        assert made.data is not None and len(made.data) == 2
        for one in made.data:
            assert one.url is None and one.b64_json is not None
            image = Image.open(io.BytesIO(base64.b64decode(one.b64_json, validate=True)))
            image.load()
            assert (image.format, image.info["Description"]) == ("PNG", "a cat")
        assert (made.output_format, made.quality, made.background) == ("png", "high", "opaque")
        assert made.usage is not None and made.usage.total_tokens == 0
        assert made.created > 1_600_000_000

    talk(service, talking)
    assert last(service).denoise.steps == 30


def test_generate_with_urls() -> None:
    async def talking(client: openai.AsyncOpenAI, http: httpx.AsyncClient) -> None:
        made = await client.images.generate(model="paint", prompt="a cat", response_format="url")
        assert made.data is not None and made.data[0].b64_json is None and made.data[0].url is not None
        got = await http.get(made.data[0].url)
        assert Image.open(io.BytesIO(got.content)).size == (1, 1)

    talk(service_with(*pictures(1)), talking)


def test_our_own_fields_go_in_the_extra_body() -> None:
    service = service_with(*pictures(1))

    async def talking(client: openai.AsyncOpenAI, _: httpx.AsyncClient) -> None:
        await client.images.generate(prompt="a cat", extra_body={"seed": 3, "steps": 5, "negative_prompt": "fog"})

    talk(service, talking)
    assert (last(service).seeds.first, last(service).denoise.steps) == (3, 5)


def test_generate_streamed() -> None:
    steps: list[Any] = [ImageStarted(passes=1, steps=20)]
    for step in range(1, 21):
        steps.append(StepDone(pass_index=0, step=step, steps=20))
        if step % 6 == 0:
            steps.append(Preview(pass_index=0, png=tiny_png(step)))

    async def talking(client: openai.AsyncOpenAI, _: httpx.AsyncClient) -> None:
        stream = await client.images.generate(prompt="a cat", stream=True, partial_images=2)
        events = [event async for event in stream]
        assert events[-1].type == "image_generation.completed"
        assert base64.b64decode(events[-1].b64_json).startswith(b"\x89PNG")
        assert events[-1].usage.input_tokens_details.text_tokens == 0
        partial = [event.partial_image_index for event in events if event.type == "image_generation.partial_image"]
        assert partial == list(range(len(partial)))

    talk(service_with(*steps, ready()), talking)


def test_trouble_in_mid_stream_is_an_exception() -> None:
    async def talking(client: openai.AsyncOpenAI, _: httpx.AsyncClient) -> None:
        stream = await client.images.generate(prompt="a cat", stream=True)
        with pytest.raises(openai.APIError, match="died"):
            _ = [event async for event in stream]

    talk(service_with(ImageStarted(passes=1, steps=20), WorkerDied("the worker died")), talking)


def test_edit() -> None:
    service = service_with(*pictures(2))
    image, mask = picture(640, 480, kind="JPEG"), hole(640, 480)

    async def talking(client: openai.AsyncOpenAI, _: httpx.AsyncClient) -> None:
        made = await client.images.edit(
            image=("photo.jpg", image, "image/jpeg"),
            mask=io.BytesIO(mask),
            prompt="a red hat",
            n=2,
            size="512x512",
            input_fidelity="high",
            extra_body={"seed": 3, "cfg_scale": 5.5},
        )
        assert made.data is not None and len(made.data) == 2

    talk(service, talking)
    work = last(service)
    assert work.init is not None and work.init.inpaint is not None
    assert (work.init.images, work.init.inpaint.mask, work.init.strength) == ((image,), mask, 0.75)
    assert (work.seeds.first, work.denoise.cfg_scale, work.batches) == (3, 5.5, 2)


def test_edit_with_a_list_of_one_streamed() -> None:
    async def talking(client: openai.AsyncOpenAI, _: httpx.AsyncClient) -> None:
        stream = await client.images.edit(image=[io.BytesIO(picture())], prompt="x", stream=True, partial_images=1)
        assert [event.type async for event in stream] == ["image_edit.completed"]

    talk(service_with(*pictures(1)), talking)


def test_edit_with_two_pictures_is_refused_for_good() -> None:
    service = service_with()

    async def talking(client: openai.AsyncOpenAI, _: httpx.AsyncClient) -> None:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.images.edit(image=[io.BytesIO(picture()), io.BytesIO(picture())], prompt="x")
        assert caught.value.param == "image"

    talk(service, talking)
    assert service.submissions == []


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
def test_variations() -> None:
    service = service_with(*pictures(1))

    async def talking(client: openai.AsyncOpenAI, _: httpx.AsyncClient) -> None:
        made = await client.images.create_variation(image=io.BytesIO(picture()), n=1, size="256x256", user="me")
        assert made.data is not None and made.data[0].b64_json

    talk(service, talking)
    assert last(service).size.width == 256


def test_errors_are_the_packages_own() -> None:
    async def talking(client: openai.AsyncOpenAI, _: httpx.AsyncClient) -> None:
        with pytest.raises(openai.NotFoundError):
            await client.images.generate(model="nobody", prompt="a cat")
        with pytest.raises(openai.BadRequestError) as caught:
            await client.images.generate(prompt="a cat", n=11)
        assert caught.value.param == "n"

    talk(service_with(), talking)
