"""The real `anthropic` package against the door."""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from server.core.errors import ContextTooLong, DoesNotFit, QueueFull, ServerError, WorkerDied
from server.core.text import (
    ChatRequest,
    ReasoningDelta,
    TextDelta,
    TextFinished,
    TextStarted,
    ToolCallDelta,
    Usage,
)
from tests.compat.anthropic.door import HELLO, TOOL, app
from tests.support.fake_service import FakeService, answer

anthropic = pytest.importorskip("anthropic")

Talk = Callable[[Any], Awaitable[None]]
TURN = {"model": "tiny", "max_tokens": 50, "messages": HELLO}
CALLS = (
    TextStarted(prompt_tokens=5),
    ReasoningDelta(choice=0, text="hm"),
    TextDelta(choice=0, text="I look"),
    ToolCallDelta(choice=0, index=0, id="toolu_1", name="look"),
    ToolCallDelta(choice=0, index=0, arguments='{"at": '),
    ToolCallDelta(choice=0, index=0, arguments='"x"}'),
    TextFinished(choice=0, reason="tool_calls", usage=Usage(prompt_tokens=5, completion_tokens=9, cached_tokens=2)),
)


def talk(service: FakeService, talking: Talk) -> None:
    async def run() -> None:
        # The package brings its own HTTP library under one of two names.
        http: Any = _http()
        client = http.AsyncClient(transport=http.ASGITransport(app=app(service)))
        async with anthropic.AsyncAnthropic(
            base_url="http://hearth", api_key="none", http_client=client, max_retries=0
        ) as caller:
            await talking(caller)

    asyncio.run(run())


@functools.cache
def _http() -> Any:
    from anthropic import _base_client

    return getattr(_base_client, "httpx2", None) or _base_client.httpx  # type: ignore[attr-defined]


def test_an_answer() -> None:
    async def talking(client: Any) -> None:
        message = await client.messages.create(**TURN)
        assert message.content[0].text == "Hello world"
        assert (message.stop_reason, message.usage.input_tokens, message.usage.output_tokens) == ("end_turn", 5, 2)

    talk(FakeService(), talking)


def test_a_stream_of_events() -> None:
    async def talking(client: Any) -> None:
        text = ""
        async for event in await client.messages.create(**TURN, stream=True):
            if event.type == "content_block_delta":
                text += event.delta.text
        assert text == "Hello world"

    talk(FakeService(), talking)


def test_the_stream_helper_and_the_whole_answer_agree() -> None:
    service = FakeService()
    service.script(*CALLS)
    service.script(*CALLS)

    async def talking(client: Any) -> None:
        fields = {**TURN, "tools": [TOOL], "thinking": {"type": "adaptive"}}
        async with client.messages.stream(**fields) as stream:
            streamed = await stream.get_final_message()
        whole = await client.messages.create(**fields)
        for message in (streamed, whole):
            assert [block.type for block in message.content] == ["thinking", "text", "tool_use"]
            assert message.content[0].thinking == "hm"
            assert message.content[2].input == {"at": "x"}
            assert message.stop_reason == "tool_use"
            usage = message.usage
            assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (3, 2, 9)

    talk(service, talking)


def test_a_round_of_tools_goes_back_in() -> None:
    service = FakeService()
    service.script(*CALLS)

    async def talking(client: Any) -> None:
        first = await client.messages.create(**TURN, tools=[TOOL], thinking={"type": "adaptive"})
        result = {"type": "tool_result", "tool_use_id": first.content[2].id, "content": "a tree"}
        history = [*HELLO, {"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
        await client.messages.create(**{**TURN, "messages": history}, tools=[TOOL])

    talk(service, talking)
    work = service.last
    assert isinstance(work, ChatRequest)
    assert [message.role for message in work.messages] == ["user", "assistant", "tool"]
    assert work.messages[1].reasoning == "hm" and work.messages[1].tool_calls[0].arguments == '{"at":"x"}'


def test_a_count() -> None:
    async def talking(client: Any) -> None:
        counted = await client.messages.count_tokens(model="tiny", messages=HELLO)
        assert counted.input_tokens == len("<user>hi")

    talk(FakeService(), talking)


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (ContextTooLong.of(5, 9), 400, "invalid_request_error"),
        (QueueFull("full"), 529, "overloaded_error"),
        (DoesNotFit("big"), 507, "api_error"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_errors(error: ServerError, status: int, kind: str, stream: bool) -> None:
    service = FakeService()
    service.script(error)

    async def talking(client: Any) -> None:
        with pytest.raises(anthropic.APIStatusError) as caught:
            await client.messages.create(**TURN, stream=stream)
        assert caught.value.status_code == status
        assert caught.value.body["error"]["type"] == kind

    talk(service, talking)


def test_an_unknown_model() -> None:
    async def talking(client: Any) -> None:
        with pytest.raises(anthropic.NotFoundError):
            await client.messages.create(**{**TURN, "model": "other"})

    talk(FakeService(), talking)


def test_an_error_in_mid_stream() -> None:
    service = FakeService()
    service.script(TextStarted(prompt_tokens=1), TextDelta(choice=0, text="He"), WorkerDied("the worker died"))

    async def talking(client: Any) -> None:
        with pytest.raises(anthropic.APIError, match="the worker died"):
            async for _ in await client.messages.create(**TURN, stream=True):
                pass

    talk(service, talking)


def test_leaving_early_frees_the_job() -> None:
    service = FakeService()
    service.script(*answer(*["x"] * 50))

    async def talking(client: Any) -> None:
        stream = await client.messages.create(**TURN, stream=True)
        await anext(aiter(stream))
        await stream.close()

    talk(service, talking)
    assert service.live() == ()
