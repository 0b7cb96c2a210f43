import asyncio

import pytest
from litestar import Litestar, Request, Response, get
from litestar.testing import TestClient

from server.http.disconnect import LEFT, ClientLeft, unless_disconnected
from server.http.reply import to_response
from tests.support.asgi import Exchange, http_scope


class Job:
    """Work that waits until it is told to go on, and notes how it ended."""

    def __init__(self) -> None:
        self.running = asyncio.Event()
        self.go_on = asyncio.Event()
        self.ended = ""

    async def run(self) -> str:
        try:
            self.running.set()
            await self.go_on.wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)  # putting things away takes a turn of the loop
            self.ended = "cancelled"
            raise
        self.ended = "done"
        return "result"


def request(exchange: Exchange) -> "Request[object, object, object]":
    return Request(http_scope(), exchange.receive, exchange.send)  # type: ignore[arg-type]


def test_the_result_comes_back_and_nothing_stays_behind() -> None:
    async def scenario() -> tuple[str, int]:
        job = Job()
        job.go_on.set()
        result = await unless_disconnected(request(Exchange()), job.run())
        return result, len(asyncio.all_tasks())

    assert asyncio.run(scenario()) == ("result", 1)


def test_an_error_of_the_work_comes_through() -> None:
    async def broken() -> None:
        raise LookupError("broken")

    async def scenario() -> None:
        await unless_disconnected(request(Exchange()), broken())

    with pytest.raises(LookupError, match="broken"):
        asyncio.run(scenario())


def test_leaving_cancels_the_work_and_waits_for_its_end() -> None:
    async def scenario() -> Job:
        job, exchange = Job(), Exchange()
        waiting = asyncio.create_task(unless_disconnected(request(exchange), job.run()))
        await job.running.wait()
        exchange.leave()
        with pytest.raises(ClientLeft):
            await waiting
        assert len(asyncio.all_tasks()) == 1
        return job

    assert asyncio.run(scenario()).ended == "cancelled"


def test_a_rest_of_the_body_is_not_taken_for_leaving() -> None:
    async def scenario() -> str:
        job, exchange = Job(), Exchange([b"", b"", b""])
        waiting = asyncio.create_task(unless_disconnected(request(exchange), job.run()))
        await job.running.wait()
        await asyncio.sleep(0)
        job.go_on.set()
        return await waiting

    assert asyncio.run(scenario()) == "result"


def test_a_result_that_is_ready_when_the_client_leaves_counts() -> None:
    async def scenario() -> str:
        job, exchange = Job(), Exchange()
        waiting = asyncio.create_task(unless_disconnected(request(exchange), job.run()))
        await job.running.wait()
        job.go_on.set()
        exchange.leave()
        return await waiting

    assert asyncio.run(scenario()) == "result"


def test_an_error_while_putting_away_is_not_told_to_nobody(recwarn: pytest.WarningsRecorder) -> None:
    async def untidy(running: asyncio.Event) -> None:
        try:
            running.set()
            await asyncio.Event().wait()
        finally:
            raise LookupError("on the way out")

    async def scenario() -> None:
        exchange, running = Exchange(), asyncio.Event()
        waiting = asyncio.create_task(unless_disconnected(request(exchange), untidy(running)))
        await running.wait()
        exchange.leave()
        with pytest.raises(ClientLeft):
            await waiting

    asyncio.run(scenario())
    assert not recwarn.list


def test_a_cancelled_handler_takes_its_work_along() -> None:
    async def scenario() -> Job:
        job = Job()
        waiting = asyncio.create_task(unless_disconnected(request(Exchange()), job.run()))
        await job.running.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        return job

    assert asyncio.run(scenario()).ended == "cancelled"


def test_the_answer_to_nobody_is_empty() -> None:
    @get("/")
    async def leave() -> None:
        raise ClientLeft

    def handle(_: Request[object, object, object], __: Exception) -> Response[bytes]:
        return to_response(LEFT)

    app = Litestar([leave], exception_handlers={ClientLeft: handle}, logging_config=None, openapi_config=None)
    with TestClient(app) as client:
        answer = client.get("/")
    assert answer.status_code == 499
    assert answer.content == b""
