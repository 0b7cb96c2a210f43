import asyncio
from collections.abc import AsyncIterable
from typing import Any

import pytest
from litestar import Request

from server.core.errors import QueueFull
from server.core.jobs import CancelMode, Event, Loading
from server.core.text import CompletionRequest, TextDelta, TextStarted
from server.http.asking import gathered, opened
from server.http.disconnect import ClientLeft
from tests.support.aio import asynchronous
from tests.support.asgi import Exchange, http_scope
from tests.support.fake_service import FakeService, answer

WORK = CompletionRequest(model="tiny", prompts=("x",))


async def request(exchange: Exchange) -> Request[Any, Any, Any]:
    await exchange.receive()  # the body
    return Request(http_scope(method="POST"), exchange.receive, exchange.send)  # type: ignore[arg-type]


async def texts(events: AsyncIterable[Event]) -> str:
    return "".join([event.text async for event in events if isinstance(event, TextDelta)])


@asynchronous
async def test_gathered_gives_the_whole_and_lets_go() -> None:
    service = FakeService()
    service.script(*answer("a", "b"))
    assert await gathered(service, WORK, await request(Exchange()), texts) == "ab"
    assert service.live() == ()


@asynchronous
async def test_gathered_raises_what_ends_the_job() -> None:
    service = FakeService()
    service.script(TextStarted(prompt_tokens=1), QueueFull("full"))
    with pytest.raises(QueueFull):
        await gathered(service, WORK, await request(Exchange()), texts)


@pytest.mark.parametrize("ask", ["gathered", "opened"])
@asynchronous
async def test_a_client_that_leaves_abandons_the_job(ask: str) -> None:
    service, never, exchange = FakeService(), asyncio.Event(), Exchange()
    service.script(Loading(model="tiny"), never)
    asked = await request(exchange)
    exchange.leave()
    with pytest.raises(ClientLeft):
        if ask == "gathered":
            await gathered(service, WORK, asked, texts)
        else:
            await opened(service, WORK, asked, patience_s=60)
    assert service.submissions[0].cancels == [CancelMode.ABANDON]
    never.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)


@asynchronous
async def test_opened_tells_whether_the_engine_has_accepted() -> None:
    service, gate = FakeService(), asyncio.Event()
    service.script(*answer("a"))
    stream, accepted = await opened(service, WORK, await request(Exchange()), patience_s=60)
    assert accepted and await texts(stream) == "a"
    service.script(gate, *answer("b"))
    stream, accepted = await opened(service, WORK, await request(Exchange()), patience_s=0)
    gate.set()
    assert not accepted and await texts(stream) == "b"
    service.script(QueueFull("full"))
    with pytest.raises(QueueFull):
        await opened(service, WORK, await request(Exchange()), patience_s=60)
    assert service.live() == ()
