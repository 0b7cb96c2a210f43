"""The door over HTTP: statuses, headers, streams, and clients that leave."""

import asyncio
import json
from typing import Any

import pytest
from litestar import Litestar

from compat.anthropic import AnthropicSettings, dialect
from server.core.errors import ContextTooLong, QueueFull, WorkerDied
from server.core.jobs import CancelMode, Loading
from server.core.text import ChatRequest, TextDelta, TextStarted, TokenizeRequest
from server.http.auth import ApiKey, Keyring, guard
from tests.compat.anthropic.door import HELLO, app, ask, events_of, knocking, post
from tests.support.asgi import Exchange, http_scope
from tests.support.fake_service import FakeService, answer


def test_a_whole_answer() -> None:
    service = FakeService()
    service.script(*answer("Hello", " you", prompt=7, cached=3))
    answered = ask(service, temperature=0)
    body = answered.json()
    assert answered.status_code == 200 and answered.headers["content-type"] == "application/json"
    assert body.pop("id").startswith("msg_")
    assert body == {
        "type": "message",
        "role": "assistant",
        "model": "tiny",
        "content": [{"type": "text", "text": "Hello you"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 4,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 3,
            "output_tokens": 2,
        },
    }
    work = service.last
    assert isinstance(work, ChatRequest) and (work.model, work.sampling.temperature) == ("tiny", 0.0)
    assert service.live() == ()


def test_a_streamed_answer() -> None:
    service = FakeService()
    service.script(*answer("Hello", " you", prompt=7, cached=3))
    answered = ask(service, stream=True)
    assert answered.headers["content-type"].startswith("text/event-stream")
    events = events_of(answered.text)
    assert [event["type"] for event in events] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert events[-2]["usage"]["output_tokens"] == 2 and events[-2]["usage"]["cache_read_input_tokens"] == 3
    assert service.live() == ()


def test_tokens_are_counted_without_a_limit_on_the_answer() -> None:
    service = FakeService()
    answered = post(service, {"model": "tiny", "messages": HELLO, "system": "s"}, "/count_tokens")
    assert answered.status_code == 200
    # The double counts the bytes of `<role>text`.
    assert answered.json() == {"input_tokens": len("<system>s<user>hi")}
    assert isinstance(service.last, TokenizeRequest) and service.live() == ()


@pytest.mark.parametrize("missing", ["model", "max_tokens", "messages"])
def test_required_fields(missing: str) -> None:
    body: dict[str, Any] = {"model": "tiny", "max_tokens": 5, "messages": HELLO}
    del body[missing]
    answered = post(FakeService(), body)
    assert answered.status_code == 400
    assert answered.json() == {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": f"Missing required parameter: '{missing}'."},
    }


@pytest.mark.parametrize("stream", [False, True])
def test_errors_before_the_first_byte_have_a_status(stream: bool) -> None:
    service = FakeService()
    for error, status in ((ContextTooLong.of(5, 9), 400), (QueueFull("full", retry_after=2), 529)):
        service.script(error)
        answered = ask(service, stream=stream)
        assert answered.status_code == status and answered.json()["type"] == "error"
    assert answered.headers["retry-after"] == "2"
    assert ask(service, stream=stream, model="tinny").status_code == 404


def test_an_error_in_mid_stream_is_an_event_and_the_end() -> None:
    service = FakeService()
    service.script(TextStarted(prompt_tokens=1), TextDelta(choice=0, text="He"), WorkerDied("the worker died"))
    events = events_of(ask(service, stream=True).text)
    assert events[-1] == {"type": "error", "error": {"type": "api_error", "message": "the worker died"}}
    assert "message_stop" not in [event["type"] for event in events]


def test_a_stream_that_has_to_wait_opens_with_a_comment() -> None:
    async def run() -> str:
        service, gate = FakeService(), asyncio.Event()
        service.script(Loading(model="tiny"), gate, *answer("x"))
        body = json.dumps({"model": "tiny", "max_tokens": 5, "messages": HELLO, "stream": True}).encode()
        exchange = Exchange((body,))
        scope = http_scope("/v1/messages", "POST", {"content-type": "application/json"})
        task = asyncio.create_task(app(service, patience_s=0)(scope, exchange.receive, exchange.send))  # type: ignore[arg-type]
        await exchange.something_sent.wait()
        gate.set()
        await task
        return exchange.body.decode()

    text = asyncio.run(run())
    assert text.startswith(": waiting")
    assert events_of(text)[-1]["type"] == "message_stop"


def test_strictness() -> None:
    body = {"model": "tiny", "max_tokens": 5, "messages": HELLO, "metadata": {"user_id": "x"}}
    assert post(FakeService(), body).headers["x-hearth-ignored"] == "metadata"
    refused = post(FakeService(), body, strict=True)
    assert refused.status_code == 400 and "metadata" in refused.json()["error"]["message"]


def test_the_request_id_is_told_where_clients_look() -> None:
    async def run(fields: dict[str, Any]) -> str:
        body = json.dumps({"model": "tiny", "max_tokens": 5, "messages": HELLO, **fields}).encode()
        exchange = Exchange((body,))
        scope = http_scope("/v1/messages", "POST", {"content-type": "application/json"})
        scope["state"]["request_id"] = "abc-1"
        await app(FakeService())(scope, exchange.receive, exchange.send)  # type: ignore[arg-type]
        return exchange.headers["request-id"]

    assert asyncio.run(run({})) == "abc-1"
    assert asyncio.run(run({"model": "other"})) == "abc-1"


def test_keys() -> None:
    keyed = guard(Keyring([ApiKey(name="ann", key="secret")]))

    async def run() -> tuple[int, str, str]:
        service = FakeService()
        async with knocking(service, guards=[keyed]) as client:
            body = {"model": "tiny", "max_tokens": 5, "messages": HELLO}
            refused = await client.post("/v1/messages", json=body, headers={"x-api-key": "wrong"})
            await client.post("/v1/messages", json=body, headers={"x-api-key": "secret"})
        return refused.status_code, refused.json()["error"]["type"], service.submissions[0].owner

    assert asyncio.run(run()) == (401, "authentication_error", "ann")


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_the_job(stream: bool) -> None:
    async def run() -> list[CancelMode]:
        service, never = FakeService(), asyncio.Event()
        service.script(TextStarted(prompt_tokens=1), TextDelta(choice=0, text="x"), never)
        body = json.dumps({"model": "tiny", "max_tokens": 5, "messages": HELLO, "stream": stream}).encode()
        exchange = Exchange((body,))
        scope = http_scope("/v1/messages", "POST", {"content-type": "application/json"})
        task = asyncio.create_task(app(service)(scope, exchange.receive, exchange.send))  # type: ignore[arg-type]
        while not service.submissions:
            await asyncio.sleep(0)
        if stream:
            await exchange.something_sent.wait()
        exchange.leave()
        await task
        assert service.live() == ()
        never.set()
        return service.submissions[0].cancels

    assert asyncio.run(run()) == [CancelMode.ABANDON]


def test_the_description_of_the_routes_can_be_made() -> None:
    described = Litestar([dialect(FakeService(), AnthropicSettings()).router], logging_config=None)
    assert "/v1/messages" in described.openapi_schema.to_schema()["paths"]
