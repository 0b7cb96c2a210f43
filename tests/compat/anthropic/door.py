"""The door alone in an app, and ways to knock on it."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec
from litestar import Litestar

from compat.anthropic import AnthropicSettings, dialect, wire
from server.http.auth import Guard
from tests.support.fake_service import FakeService

HELLO = [{"role": "user", "content": "hi"}]
TOOL = {"name": "look", "description": "looks", "input_schema": {"type": "object"}}


def app(service: FakeService, *, guards: Sequence[Guard] = (), **settings: Any) -> Litestar:
    door = dialect(service, AnthropicSettings(**settings))
    return Litestar(route_handlers=[door.router], guards=guards, logging_config=None, openapi_config=None)


@asynccontextmanager
async def knocking(service: FakeService, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=app(service, **settings))
    async with httpx.AsyncClient(transport=transport, base_url="http://hearth") as client:
        yield client


def post(service: FakeService, body: Any, path: str = "", *, headers: Any = None, **settings: Any) -> httpx.Response:
    async def once() -> httpx.Response:
        async with knocking(service, **settings) as client:
            return await client.post(f"/v1/messages{path}", json=body, headers=headers)

    return asyncio.run(once())


def ask(service: FakeService, **fields: Any) -> httpx.Response:
    return post(service, {"model": "tiny", "max_tokens": 50, "messages": HELLO, **fields})


def request(**fields: Any) -> wire.MessagesRequest:
    return msgspec.convert({"model": "tiny", "max_tokens": 50, "messages": HELLO, **fields}, wire.MessagesRequest)


def events_of(text: str) -> list[dict[str, Any]]:
    """Return the events of a stream, parsed; each must be named after its type."""
    parsed = []
    for block in text.split("\n\n"):
        if not block or block.startswith(":"):
            continue
        name, data = block.split("\n")
        body = json.loads(data.removeprefix("data: "))
        assert name == f"event: {body['type']}"
        parsed.append(body)
    return parsed
