"""The real `openai` package against `/v1/responses`: `create`, `parse`, and the `stream` helper."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import openai
import pydantic
import pytest

from server.core.errors import WorkerDied
from server.core.text import ReasoningDelta, TextDelta, TextFinished, TextStarted, TokenLogprob, ToolCallDelta, Usage
from tests.compat.openai.door import app
from tests.support.fake_service import FakeService, answer

Talk = Callable[[openai.AsyncOpenAI], Awaitable[None]]

TOOL: Any = {
    "type": "function",
    "name": "weather",
    "description": "tells the weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "strict": True,
}
CALLS = [
    TextStarted(prompt_tokens=5),
    ReasoningDelta(choice=0, text="Paris, "),
    ReasoningDelta(choice=0, text="I think."),
    TextDelta(choice=0, text="Let me look."),
    ToolCallDelta(choice=0, index=0, id="call_1", name="weather"),
    ToolCallDelta(choice=0, index=0, arguments='{"city":'),
    ToolCallDelta(choice=0, index=0, arguments='"Paris"}'),
    ToolCallDelta(choice=0, index=1, id="call_2", name="weather", arguments='{"city":"Oslo"}'),
    TextFinished(choice=0, reason="tool_calls", usage=Usage(prompt_tokens=5, completion_tokens=9, reasoning_tokens=3)),
]


class Person(pydantic.BaseModel):
    name: str
    age: int


def talk(service: FakeService, talking: Talk, file: Path | None = None) -> None:
    async def run() -> None:
        asked = app(service, responses_file=str(file) if file else None)
        http = httpx.AsyncClient(transport=httpx.ASGITransport(app=asked))
        async with openai.AsyncOpenAI(
            base_url="http://hearth/v1", api_key="none", http_client=http, max_retries=0
        ) as client:
            await talking(client)

    asyncio.run(run())


def test_create() -> None:
    async def talking(client: openai.AsyncOpenAI) -> None:
        response = await client.responses.create(model="tiny", input="hi", instructions="be kind")
        assert response.output_text == "Hello world" and response.status == "completed"
        assert response.usage is not None and response.usage.total_tokens == 7
        # Nothing of what the package's own types demand is missing or of another type.
        type(response).model_validate(response.model_dump())

    talk(FakeService(), talking)


def test_create_streamed() -> None:
    async def talking(client: openai.AsyncOpenAI) -> None:
        stream = await client.responses.create(model="tiny", input="hi", stream=True)
        text, last = "", None
        async for event in stream:
            type(event).model_validate(event.model_dump())
            if event.type == "response.output_text.delta":
                text += event.delta
            last = event
        assert text == "Hello world" and last is not None and last.type == "response.completed"

    talk(FakeService(), talking)


def test_the_stream_helper() -> None:
    async def talking(client: openai.AsyncOpenAI) -> None:
        async with client.responses.stream(model="tiny", input="hi") as stream:
            snapshots = [event.snapshot async for event in stream if event.type == "response.output_text.delta"]
            final = await stream.get_final_response()
        assert snapshots == ["Hello", "Hello world"] and final.output_text == "Hello world"

    talk(FakeService(), talking)


def test_the_stream_helper_with_thoughts_and_calls() -> None:
    service = FakeService()
    service.script(*CALLS)
    seen: list[str] = []

    async def talking(client: openai.AsyncOpenAI) -> None:
        async with client.responses.stream(model="tiny", input="hi", tools=[TOOL]) as stream:
            async for event in stream:
                seen.append(event.type)
                if event.type == "response.function_call_arguments.delta":
                    assert event.snapshot.startswith('{"city":')
            final = await stream.get_final_response()
        thoughts, message, first, second = final.output
        assert thoughts.type == "reasoning" and thoughts.content is not None
        assert thoughts.content[0].text == "Paris, I think."
        assert message.type == "message" and final.output_text == "Let me look."
        assert first.type == "function_call" and second.type == "function_call"
        assert (first.call_id, first.arguments) == ("call_1", '{"city":"Paris"}')
        assert (first.parsed_arguments, second.parsed_arguments) == ({"city": "Paris"}, {"city": "Oslo"})
        assert final.usage is not None and final.usage.output_tokens_details.reasoning_tokens == 3

    talk(service, talking)
    assert "response.reasoning_text.delta" in seen and seen.count("response.output_item.done") == 4


def test_a_structured_answer() -> None:
    service = FakeService()
    for _ in range(2):
        service.script(*answer('{"name":"Ann",', '"age":5}'))

    async def talking(client: openai.AsyncOpenAI) -> None:
        parsed = await client.responses.parse(model="tiny", input="hi", text_format=Person)
        assert parsed.output_parsed == Person(name="Ann", age=5)
        async with client.responses.stream(model="tiny", input="hi", text_format=Person) as stream:
            final = await stream.get_final_response()
        assert final.output_parsed == Person(name="Ann", age=5)

    talk(service, talking)
    for submission in service.submissions:
        constraint = submission.work.constraint  # type: ignore[union-attr]
        assert constraint is not None and '"age"' in constraint.schema  # type: ignore[union-attr]


def test_a_stream_that_meets_its_limit() -> None:
    service = FakeService()
    service.script(*answer("Hel", reason="length"))

    async def talking(client: openai.AsyncOpenAI) -> None:
        async with client.responses.stream(model="tiny", input="hi", max_output_tokens=1) as stream:
            *_, last = [event async for event in stream]
        assert last.type == "response.incomplete" and last.response.incomplete_details is not None
        assert last.response.incomplete_details.reason == "max_output_tokens"
        assert last.response.output_text == "Hel"

    talk(service, talking)


def test_a_stream_that_breaks() -> None:
    service = FakeService()
    service.script(TextStarted(prompt_tokens=1), TextDelta(choice=0, text="He"), WorkerDied("the worker died"))

    async def talking(client: openai.AsyncOpenAI) -> None:
        stream = await client.responses.create(model="tiny", input="hi", stream=True)
        error, failed = [event async for event in stream][-2:]
        assert error.type == "error" and error.message == "the worker died"
        assert failed.type == "response.failed" and failed.response.error is not None
        assert failed.response.error.code == "worker_died"  # type: ignore[comparison-overlap]

    talk(service, talking)


def test_logprobs() -> None:
    service = FakeService()
    token = TokenLogprob(token=1, piece=b"x", logprob=-0.5)
    delta = TextDelta(choice=0, text="x", logprobs=(token,))
    service.script(TextStarted(prompt_tokens=1), delta, TextFinished(choice=0, reason="stop", usage=Usage()))

    async def talking(client: openai.AsyncOpenAI) -> None:
        response = await client.responses.create(
            model="tiny", input="hi", include=["message.output_text.logprobs"], top_logprobs=1
        )
        part = response.output[0].content[0]  # type: ignore[union-attr, index]
        assert part.logprobs[0].logprob == -0.5  # type: ignore[union-attr, index]

    talk(service, talking)


def test_storage(tmp_path: Path) -> None:
    service = FakeService()

    async def talking(client: openai.AsyncOpenAI) -> None:
        first = await client.responses.create(model="tiny", input="one")
        second = await client.responses.create(model="tiny", input="two", previous_response_id=first.id)
        assert (await client.responses.retrieve(second.id)).output_text == "Hello world"
        items = [item async for item in client.responses.input_items.list(second.id)]
        assert [item.type for item in items] == ["message"]
        await client.responses.delete(second.id)
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(second.id)
        with pytest.raises(openai.BadRequestError) as caught:
            await client.responses.create(model="tiny", input="x", previous_response_id=second.id)
        assert caught.value.code == "previous_response_not_found"

    talk(service, talking, tmp_path / "responses.sqlite3")
    assert len(service.submissions[1].work.messages) == 3  # type: ignore[union-attr]


def test_a_loop_of_calls_without_storage() -> None:
    """An agent sends the whole history back each time, thoughts and all."""
    service = FakeService()
    service.script(*CALLS)

    async def talking(client: openai.AsyncOpenAI) -> None:
        history: list[Any] = [{"role": "user", "content": "How is the weather?"}]
        first = await client.responses.create(model="tiny", input=history, tools=[TOOL], store=False)
        history += [item.model_dump(exclude_none=True) for item in first.output]
        for item in first.output:
            if item.type == "function_call":
                history.append({"type": "function_call_output", "call_id": item.call_id, "output": "sunny"})
        second = await client.responses.create(model="tiny", input=history, tools=[TOOL], store=False)
        assert second.output_text == "Hello world"

    talk(service, talking)
    user, asked, *results = service.last.messages  # type: ignore[union-attr]
    assert (user.role, asked.role, [one.tool_call_id for one in results]) == ("user", "assistant", ["call_1", "call_2"])
    assert asked.reasoning == "Paris, I think." and len(asked.tool_calls) == 2
