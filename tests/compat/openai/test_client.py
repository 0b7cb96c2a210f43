"""The real `openai` package against the door."""

import asyncio
import base64
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import openai
import pydantic
import pytest

from server.core.errors import ContextTooLong, DoesNotFit, LoadFailed, QueueFull, ServerError, WorkerDied
from server.core.text import (
    LikelyToken,
    ReasoningDelta,
    TextDelta,
    TextFinished,
    TextStarted,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)
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
        with pytest.raises(openai.BadRequestError, match=r"response_format\.json_schema\.schema"):
            schema = {"type": "json_schema", "json_schema": {"name": "x"}}
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


WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
CALLS = [
    TextStarted(prompt_tokens=5),
    ReasoningDelta(choice=0, text="hm"),
    ToolCallDelta(choice=0, index=0, id="call_1", name="weather"),
    ToolCallDelta(choice=0, index=0, arguments='{"city":'),
    ToolCallDelta(choice=0, index=0, arguments='"Paris"}'),
    ToolCallDelta(choice=0, index=1, id="call_2", name="weather", arguments='{"city":"Oslo"}'),
    TextFinished(choice=0, reason="tool_calls", usage=Usage(prompt_tokens=5, completion_tokens=9, reasoning_tokens=3)),
]


class Person(pydantic.BaseModel):
    name: str
    age: int


def test_calls() -> None:
    service = FakeService()
    service.script(*CALLS)

    async def talking(client: openai.AsyncOpenAI) -> None:
        choice: Any = {"type": "function", "function": {"name": "weather"}}
        done = await client.chat.completions.create(
            model="tiny",
            messages=HELLO,  # type: ignore[arg-type]
            tools=[WEATHER],
            tool_choice=choice,
        )
        message = done.choices[0].message
        assert done.choices[0].finish_reason == "tool_calls" and message.content is None
        calls = [(call.id, call.function.arguments) for call in message.tool_calls or []]  # type: ignore[union-attr]
        assert calls == [("call_1", '{"city":"Paris"}'), ("call_2", '{"city":"Oslo"}')]
        assert message.reasoning_content == "hm"  # type: ignore[attr-defined]
        details = done.usage.completion_tokens_details  # type: ignore[union-attr]
        assert details is not None and details.reasoning_tokens == 3

    talk(service, talking)
    assert (service.last.tool_choice, service.last.tool_name) == ("named", "weather")  # type: ignore[union-attr]


def test_the_stream_helper_with_calls() -> None:
    service = FakeService()
    service.script(*CALLS)

    async def talking(client: openai.AsyncOpenAI) -> None:
        async with client.chat.completions.stream(
            model="tiny",
            messages=HELLO,  # type: ignore[arg-type]
            tools=[WEATHER],
        ) as stream:
            done = [event async for event in stream if event.type == "tool_calls.function.arguments.done"]
            final = await stream.get_final_completion()
        assert [(event.index, event.name, event.arguments) for event in done] == [
            (0, "weather", '{"city":"Paris"}'),
            (1, "weather", '{"city":"Oslo"}'),
        ]
        calls = final.choices[0].message.tool_calls
        assert calls is not None and [call.id for call in calls] == ["call_1", "call_2"]
        assert calls[0].function.parsed_arguments == {"city": "Paris"}
        assert final.choices[0].finish_reason == "tool_calls"

    talk(service, talking)


def test_a_structured_answer() -> None:
    service = FakeService()
    for _ in range(2):
        service.script(*answer('{"name":"Ann",', '"age":5}'))
    service.script(*answer('{"name"', reason="length"))

    async def talking(client: openai.AsyncOpenAI) -> None:
        wanted: dict[str, Any] = {"model": "tiny", "messages": HELLO, "response_format": Person}
        done = await client.chat.completions.parse(**wanted)
        assert done.choices[0].message.parsed == Person(name="Ann", age=5)
        async with client.chat.completions.stream(**wanted) as stream:
            final = await stream.get_final_completion()
        assert final.choices[0].message.parsed == Person(name="Ann", age=5)
        with pytest.raises(openai.LengthFinishReasonError):
            await client.chat.completions.parse(**wanted)

    talk(service, talking)
    assert '"age"' in service.last.constraint.schema  # type: ignore[union-attr]


def test_logprobs() -> None:
    service = FakeService()
    token = TokenLogprob(token=1, piece=b"He", logprob=-0.5, top=(LikelyToken(2, b"x", -1.0),))
    events = [
        TextStarted(prompt_tokens=1),
        TextDelta(choice=0, text="He", logprobs=(token,)),
        TextFinished(choice=0, reason="stop", usage=Usage()),
    ]
    for _ in range(3):
        service.script(*events)

    async def talking(client: openai.AsyncOpenAI) -> None:
        wanted: dict[str, Any] = {"model": "tiny", "messages": HELLO, "logprobs": True, "top_logprobs": 1}
        done = await client.chat.completions.create(**wanted)
        told = done.choices[0].logprobs
        assert told is not None and told.content is not None
        assert (told.content[0].token, told.content[0].bytes) == ("He", [72, 101])
        assert told.content[0].top_logprobs[0].logprob == -1.0
        async with client.chat.completions.stream(**wanted) as stream:
            final = await stream.get_final_completion()
        assert final.choices[0].logprobs == told
        plain = await client.completions.create(model="tiny", prompt="p", logprobs=1)
        lists = plain.choices[0].logprobs
        assert lists is not None and (lists.tokens, lists.text_offset) == (["He"], [0])
        assert lists.top_logprobs == [{"x": -1.0, "He": -0.5}]

    talk(service, talking)


@pytest.mark.parametrize("fields", [{}, {"encoding_format": "float"}, {"encoding_format": "base64"}])
def test_embeddings(fields: dict[str, Any]) -> None:
    async def talking(client: openai.AsyncOpenAI) -> None:
        made = await client.embeddings.create(model="tiny", input=["abc", "a"], **fields)
        vectors = [item.embedding for item in sorted(made.data, key=lambda item: item.index)]
        if fields.get("encoding_format") == "base64":
            assert [struct.unpack("<4f", base64.b64decode(vector)) for vector in vectors] == [  # type: ignore[arg-type]
                (3.0, 0.5, -0.25, 1.0),
                (1.0, 0.5, -0.25, 1.0),
            ]
        else:
            assert vectors == [[3.0, 0.5, -0.25, 1.0], [1.0, 0.5, -0.25, 1.0]]
        assert made.usage.prompt_tokens == 5
        with pytest.raises(openai.BadRequestError):
            await client.embeddings.create(model="tiny", input="", **fields)

    talk(FakeService(), talking)
