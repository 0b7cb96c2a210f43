import asyncio
import logging
import signal
import socket
from collections.abc import AsyncIterator

import httpx
import pytest
from litestar import Litestar, get
from litestar.types import ASGIApp
from sse_starlette.sse import AppStatus

from server.http.sse import event_stream, frame
from tests.support.asgi import Exchange, ask, http_scope
from tests.support.live_server import address, live_server


class Source:
    """Frames that note how they were treated."""

    def __init__(self, *frames: bytes, endless: bool = False) -> None:
        self._frames = frames
        self._endless = endless
        self.waiting = asyncio.Event()
        self.closed = asyncio.Event()
        self.released = asyncio.Event()

    async def frames(self) -> AsyncIterator[bytes]:
        try:
            for one in self._frames:
                yield one
            if self._endless:
                self.waiting.set()
                await asyncio.Event().wait()
        finally:
            self.closed.set()

    async def release(self) -> None:
        self.released.set()


@pytest.mark.parametrize(
    ("event", "expected"),
    [(None, b'data: {"a":1}\n\n'), ("done", b'event: done\ndata: {"a":1}\n\n')],
)
def test_a_frame_is_one_data_line_and_a_blank_one(event: str | None, expected: bytes) -> None:
    assert frame(b'{"a":1}', event=event) == expected


def test_frames_go_out_unchanged_and_joined_ones_in_one_chunk() -> None:
    joined = frame(b'{"text":"\xc3\xa4\\r\\n"}') + frame(b"[DONE]")

    async def scenario() -> Exchange:
        source = Source(frame(b"{}"), joined)
        return await ask(event_stream(source.frames()), http_scope())

    done = asyncio.run(scenario())
    assert [message["body"] for message in done.sent[1:]] == [frame(b"{}"), joined, b""]
    assert done.complete


def test_the_headers_are_those_of_the_contract() -> None:
    async def scenario() -> Exchange:
        return await ask(event_stream(Source(b"x").frames(), headers={"x-extra": "1"}), http_scope())

    headers = asyncio.run(scenario()).headers
    assert headers["content-type"].startswith("text/event-stream")
    assert headers["cache-control"] == "no-cache"
    assert headers["x-accel-buffering"] == "no"
    assert headers["x-extra"] == "1"
    assert "connection" not in headers
    assert "content-length" not in headers


def test_silence_is_filled_with_comments() -> None:
    async def scenario() -> Exchange:
        exchange = Exchange()
        source = Source(endless=True)
        stream = asyncio.create_task(
            event_stream(source.frames(), ping_s=0.01)(http_scope(), exchange.receive, exchange.send)  # type: ignore[arg-type]
        )
        while len(exchange.sent) < 3:
            exchange.something_sent.clear()
            await exchange.something_sent.wait()
        exchange.leave()
        await stream
        return exchange

    exchange = asyncio.run(scenario())
    assert {message["body"] for message in exchange.sent[1:3]} == {b": keep-alive\n\n"}


def test_a_leaving_client_closes_the_frames_and_releases_the_rest() -> None:
    async def scenario() -> None:
        exchange = Exchange()
        source = Source(b"a", endless=True)
        stream = event_stream(source.frames(), on_close=source.release)
        running = asyncio.create_task(stream(http_scope(), exchange.receive, exchange.send))  # type: ignore[arg-type]
        await source.waiting.wait()
        assert not source.closed.is_set()
        exchange.leave()
        await asyncio.wait_for(running, 5)
        assert source.closed.is_set()
        assert source.released.is_set()

    asyncio.run(scenario())


def test_what_a_stream_holds_is_released_even_if_the_first_byte_could_not_be_sent() -> None:
    async def broken_send(message: object) -> None:
        raise OSError("gone")

    async def scenario() -> Source:
        source = Source(b"a")
        stream = event_stream(source.frames(), on_close=source.release)
        with pytest.raises(OSError, match="gone"):
            await stream(http_scope(), Exchange().receive, broken_send)  # type: ignore[arg-type]
        return source

    source = asyncio.run(scenario())
    assert source.released.is_set()
    assert not source.closed.is_set(), "a generator that never began runs no code: on_close is there for that"


@pytest.mark.parametrize("stuck_at", [0, 1, 2])
def test_a_reader_that_takes_nothing_is_given_up(stuck_at: int, caplog: pytest.LogCaptureFixture) -> None:
    """Whichever message it is that the client does not take: the first, a frame, or the last."""

    async def scenario() -> Source:
        count = 0

        async def send(message: object) -> None:
            nonlocal count
            count += 1
            if count > stuck_at:
                await asyncio.Event().wait()

        source = Source(b"a")
        stream = event_stream(source.frames(), send_timeout_s=0.01, on_close=source.release)
        await asyncio.wait_for(stream(http_scope(), Exchange().receive, send), 5)  # type: ignore[arg-type]
        return source

    with caplog.at_level(logging.WARNING):
        source = asyncio.run(scenario())
    assert source.released.is_set()
    assert source.closed.is_set() == (stuck_at > 0)
    assert "took nothing" in caplog.text


def test_an_error_in_the_frames_is_not_swallowed() -> None:
    async def frames() -> AsyncIterator[bytes]:
        yield b"a"
        raise ValueError("a door's mistake")

    async def scenario() -> Exchange:
        exchange = Exchange()
        with pytest.raises(ValueError, match="a door's mistake"):
            await event_stream(frames())(http_scope(), exchange.receive, exchange.send)  # type: ignore[arg-type]
        return exchange

    assert not asyncio.run(scenario()).complete


def test_a_stop_signal_does_not_cut_running_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library ends streams when the server was told to stop; jobs must be finished first."""

    async def scenario() -> Exchange:
        go_on = asyncio.Event()

        async def frames() -> AsyncIterator[bytes]:
            yield b"first"
            await go_on.wait()
            yield b"last"

        class Stopping:
            should_exit = True

            def handler(self, *_: object) -> None:
                """Stand for uvicorn's handler, which the library finds by looking at the process."""

        before = signal.signal(signal.SIGTERM, Stopping().handler)
        monkeypatch.setattr(AppStatus, "should_exit", True)
        try:
            exchange = Exchange()
            stream = asyncio.create_task(event_stream(frames())(http_scope(), exchange.receive, exchange.send))  # type: ignore[arg-type]
            await exchange.something_sent.wait()
            for _ in range(20):  # enough turns of the loop for a waiting exit listener to act
                await asyncio.sleep(0)
            go_on.set()
            await asyncio.wait_for(stream, 5)
            return exchange
        finally:
            signal.signal(signal.SIGTERM, before)

    exchange = asyncio.run(scenario())
    assert exchange.body == b"firstlast"
    assert exchange.complete


def test_streams_leave_no_task_behind_in_any_loop() -> None:
    async def scenario() -> int:
        await ask(event_stream(Source(b"a").frames()), http_scope())
        return len(asyncio.all_tasks())

    assert [asyncio.run(scenario()) for _ in range(3)] == [1, 1, 1]


def make_app(closed: "asyncio.Future[None] | None" = None) -> Litestar:
    @get("/count")
    async def count() -> ASGIApp:
        async def frames() -> AsyncIterator[bytes]:
            for number in range(3):
                yield frame(str(number).encode())

        return event_stream(frames())

    return Litestar([count], logging_config=None, openapi_config=None)


@pytest.mark.parametrize("parser", ["h11", "httptools"])
def test_a_litestar_handler_may_return_it(parser: str) -> None:
    with live_server(make_app(), http=parser) as base:
        answer = httpx.get(base + "/count")
    assert answer.text == "data: 0\n\ndata: 1\n\ndata: 2\n\n"


@pytest.mark.parametrize("parser", ["h11", "httptools"])
def test_hanging_up_on_the_wire_closes_the_frames(parser: str) -> None:
    import threading

    closed = threading.Event()

    @get("/endless")
    async def endless() -> ASGIApp:
        async def frames() -> AsyncIterator[bytes]:
            try:
                yield frame(b"first")
                await asyncio.Event().wait()
            finally:
                closed.set()

        return event_stream(frames())

    app = Litestar([endless], logging_config=None, openapi_config=None)
    with live_server(app, http=parser) as base:
        with socket.create_connection(address(base)) as connection:
            connection.sendall(b"GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n")
            received = b""
            while b"first" not in received:
                received += connection.recv(4096)
            assert not closed.is_set()
        assert closed.wait(5)
