"""The door alone in an app, and ways to knock on it."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
from litestar import Litestar

from compat.openai import OpenAiSettings, dialect
from server.http.auth import Guard
from tests.support.fake_service import FakeService

HELLO = [{"role": "user", "content": "hi"}]


def app(service: FakeService, *, guards: Sequence[Guard] = (), **settings: Any) -> Litestar:
    door = dialect(service, OpenAiSettings(**settings))
    return Litestar(route_handlers=[door.router], guards=guards, logging_config=None, openapi_config=None)


@asynccontextmanager
async def knocking(service: FakeService, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=app(service, **settings))
    async with httpx.AsyncClient(transport=transport, base_url="http://hearth") as client:
        yield client


def post(service: FakeService, path: str, body: dict[str, Any], **settings: Any) -> httpx.Response:
    async def once() -> httpx.Response:
        async with knocking(service, **settings) as client:
            return await client.post(path, json=body)

    return asyncio.run(once())


def get(service: FakeService, path: str) -> httpx.Response:
    async def once() -> httpx.Response:
        async with knocking(service) as client:
            return await client.get(path)

    return asyncio.run(once())


def chat(service: FakeService, **fields: Any) -> httpx.Response:
    return post(service, "/v1/chat/completions", {"messages": HELLO, **fields})


def complete(service: FakeService, **fields: Any) -> httpx.Response:
    return post(service, "/v1/completions", {"prompt": "Once", **fields})


def data_of(text: str) -> list[Any]:
    """Return what stands in the data lines of a stream, parsed; `[DONE]` as it is."""
    events = [block for block in text.split("\n\n") if block and not block.startswith(":")]
    bodies = []
    for event in events:
        assert event.startswith("data: ") and "\n" not in event, event
        body = event.removeprefix("data: ")
        bodies.append(body if body == "[DONE]" else json.loads(body))
    return bodies
