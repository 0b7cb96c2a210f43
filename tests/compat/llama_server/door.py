"""The door alone in an app, and ways to knock on it."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import httpx
import msgspec
from litestar import Litestar

from compat.llama_server import LlamaServerSettings, dialect, wire
from server.http.auth import Guard
from tests.support.fake_service import FakeService

T = TypeVar("T", bound=msgspec.Struct)


def app(service: FakeService, *, guards: Sequence[Guard] = (), **settings: Any) -> Litestar:
    door = dialect(service, LlamaServerSettings(**settings))
    return Litestar(route_handlers=[door.router], guards=guards, logging_config=None, openapi_config=None)


@asynccontextmanager
async def knocking(service: FakeService, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=app(service, **settings))
    async with httpx.AsyncClient(transport=transport, base_url="http://hearth") as client:
        yield client


def post(service: FakeService, path: str, body: Any, **settings: Any) -> httpx.Response:
    async def once() -> httpx.Response:
        async with knocking(service, **settings) as client:
            return await client.post(path, json=body)

    return asyncio.run(once())


def get(service: FakeService, path: str, **settings: Any) -> httpx.Response:
    async def once() -> httpx.Response:
        async with knocking(service, **settings) as client:
            return await client.get(path)

    return asyncio.run(once())


def completion(**fields: Any) -> wire.CompletionRequest:
    return msgspec.convert({"prompt": "p", **fields}, wire.CompletionRequest)


def chunks_of(text: str) -> list[dict[str, Any]]:
    """Return what stands in the data lines of a stream, parsed."""
    chunks = []
    for block in text.split("\n\n"):
        if block and not block.startswith(":"):
            assert block.startswith("data: ") and "\n" not in block, block
            chunks.append(json.loads(block.removeprefix("data: ")))
    return chunks
