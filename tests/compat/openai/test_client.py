"""The real `openai` package against the door."""

import asyncio
from collections.abc import Awaitable, Callable

import httpx
import openai
import pytest

from server.core.errors import ContextTooLong, DoesNotFit, LoadFailed, QueueFull, ServerError, WorkerDied
from server.core.text import TextDelta, TextStarted
from tests.compat.openai.door import HELLO, app
from tests.support.fake_service import FakeService, answer, text_card

Talk = Callable[[openai.AsyncOpenAI], Awaitable[None]]


def talk(service: FakeService, talking: Talk) -> None:
    async def run() -> None:
        http = httpx.AsyncClient(transport=httpx.ASGITransport(app=app(service)))
        async with openai.AsyncOpenAI(
            base_url="http://hearth/v1", api_key="none", http_client=http, max_retries=0
        ) as client:
            await talking(client)

    asyncio.run(run())


def test_models() -> None:
    async def talking(client: openai.AsyncOpenAI) -> None:
        listed = [model.id async for model in await client.models.list()]
        assert listed == ["org/tiny:q4"]
        model = await client.models.retrieve("org/tiny:q4")
        assert (model.id, model.owned_by) == ("org/tiny:q4", "hearth")
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("other")

    talk(FakeService(text_card("org/tiny:q4")), talking)


def test_a_chat() -> None:
    async def talking(client: openai.AsyncOpenAI) -> None:
        done = await client.chat.completions.create(model="tiny", messages=HELLO)  # type: ignore[arg-type]
        assert done.choices[0].message.content == "Hello world"
        assert done.choices[0].finish_reason == "stop"
        assert done.usage is not None and done.usage.total_tokens == 7

    talk(FakeService(), talking)


def test_a_streamed_chat() -> None:
    async def talking(client: openai.AsyncOpenAI) -> None:
        stream = await client.chat.completions.create(
            model="tiny",
            messages=HELLO,
            stream=True,
            n=2,
            stream_options={"include_usage": True},  # type: ignore[arg-type]
        )
        texts = {0: "", 1: ""}
        reasons = {}
        usage = None
        async for chunk in stream:
            usage = chunk.usage or usage
            for choice in chunk.choices:
                texts[choice.index] += choice.delta.content or ""
                if choice.finish_reason:
                    reasons[choice.index] = choice.finish_reason
        assert texts == {0: "Hello world", 1: "Hello world"} and reasons == {0: "stop", 1: "stop"}
        assert usage is not None and (usage.prompt_tokens, usage.completion_tokens) == (5, 4)

    talk(FakeService(), talking)


def test_the_stream_helper() -> None:
    async def talking(client: openai.AsyncOpenAI) -> None:
        async with client.chat.completions.stream(model="tiny", messages=HELLO) as stream:  # type: ignore[arg-type]
            final = await stream.get_final_completion()
        assert final.choices[0].message.content == "Hello world"

    talk(FakeService(), talking)


def test_completions() -> None:
    service = FakeService()
    service.script(*answer("a", "b", reason="length"))
    service.script(*answer("c", "d"))

    async def talking(client: openai.AsyncOpenAI) -> None:
        done = await client.completions.create(model="tiny", prompt="p", echo=True, seed=1)
        assert (done.choices[0].text, done.choices[0].finish_reason) == ("ab", "length")
        stream = await client.completions.create(model="tiny", prompt=[1, 2], stream=True)
        assert "".join([chunk.choices[0].text async for chunk in stream]) == "cd"

    talk(service, talking)


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (ContextTooLong.of(5, 9), openai.BadRequestError, "context_length_exceeded"),
        (QueueFull("full"), openai.RateLimitError, "queue_full"),
        (DoesNotFit("big"), openai.InternalServerError, "insufficient_memory"),
        (LoadFailed("bad"), openai.InternalServerError, "model_load_failed"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_error_classes(error: ServerError, kind: type[openai.APIStatusError], code: str, stream: bool) -> None:
    service = FakeService()
    service.script(error)

    async def talking(client: openai.AsyncOpenAI) -> None:
        with pytest.raises(kind) as caught:
            await client.chat.completions.create(model="tiny", messages=HELLO, stream=stream)  # type: ignore[call-overload]
        assert caught.value.code == code
        assert error.message in str(caught.value)

    talk(service, talking)


def test_an_error_in_mid_stream() -> None:
    service = FakeService()
    service.script(TextStarted(prompt_tokens=1), TextDelta(choice=0, text="He"), WorkerDied("the worker died"))

    async def talking(client: openai.AsyncOpenAI) -> None:
        stream = await client.chat.completions.create(model="tiny", messages=HELLO, stream=True)  # type: ignore[arg-type]
        got = ""
        with pytest.raises(openai.APIError, match="the worker died") as caught:
            async for chunk in stream:
                got += chunk.choices[0].delta.content or ""
        assert got == "He" and caught.value.code == "worker_died"

    talk(service, talking)


def test_wrong_values_are_bad_requests() -> None:
    async def talking(client: openai.AsyncOpenAI) -> None:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.chat.completions.create(model="tiny", messages=HELLO, temperature=-1)  # type: ignore[arg-type]
        assert caught.value.param == "temperature"
        with pytest.raises(openai.BadRequestError, match="'response_format' of type 'json_schema' is not supported"):
            schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}
            await client.chat.completions.create(model="tiny", messages=HELLO, response_format=schema)  # type: ignore[call-overload]

    talk(FakeService(), talking)


def test_closing_a_stream_early_frees_the_job() -> None:
    service = FakeService()
    service.script(*answer(*["x"] * 50))

    async def talking(client: openai.AsyncOpenAI) -> None:
        stream = await client.chat.completions.create(model="tiny", messages=HELLO, stream=True)  # type: ignore[arg-type]
        await anext(aiter(stream))
        await stream.close()

    talk(service, talking)
    assert service.live() == ()
