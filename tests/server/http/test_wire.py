import socket
from typing import Any

import pytest

from server.http.wire import MAX_HEAD_BYTES, HeadWatch, WatchedH11, protocol
from server.http.wire_httptools import WatchedHttpTools
from tests.support.live_server import address, live_server

PATIENT: list[type[Any]] = [WatchedH11, WatchedHttpTools]


def hasty(base: type[Any]) -> type[Any]:
    return type("Hasty" + base.__name__, (base,), {"head_s": 0.2})


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer after the whole body; below `/early` without waiting for it."""
    while scope["path"] != "/early" and (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


def read_until_closed(client: socket.socket) -> bytes:
    received = b""
    while data := client.recv(65536):
        received += data
    return received


@pytest.mark.parametrize("base", PATIENT)
@pytest.mark.parametrize("start", [b"", b"G", b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: "])
def test_a_head_that_takes_too_long_is_given_up(base: type[Any], start: bytes) -> None:
    with live_server(app, http=hasty(base)) as url, socket.create_connection(address(url), timeout=5) as client:
        client.sendall(start)
        assert read_until_closed(client).startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize("base", PATIENT)
def test_the_second_head_on_a_connection_too(base: type[Any]) -> None:
    with live_server(app, http=hasty(base)) as url, socket.create_connection(address(url), timeout=5) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        received = client.recv(65536)
        client.sendall(b"GET / HTTP/1.1\r\nHost:")
        received += read_until_closed(client)
    assert received.startswith(b"HTTP/1.1 200")
    assert b"HTTP/1.1 408" in received


class Clock:
    """A loop that only counts its timers, and a transport that notes what is said."""

    def __init__(self) -> None:
        self.running: list[Any] = []
        self.said = b""
        self.closed = False

    def call_later(self, seconds: float, call: Any, *arguments: Any) -> "Clock.Timer":
        timer = Clock.Timer(self, lambda: call(*arguments))
        self.running.append(timer)
        return timer

    def is_closing(self) -> bool:
        return self.closed

    def write(self, data: bytes) -> None:
        self.said += data

    def close(self) -> None:
        self.closed = True

    class Timer:
        def __init__(self, clock: "Clock", ring: Any) -> None:
            self.clock, self.ring = clock, ring

        def cancel(self) -> None:
            self.clock.running.remove(self)


def test_the_clock_runs_only_while_a_head_is_incomplete() -> None:
    clock = Clock()
    watch = HeadWatch(clock, clock, limit_s=1)  # type: ignore[arg-type]
    assert len(clock.running) == 1, "from connecting"
    watch.heard(10, incomplete=True)
    assert len(clock.running) == 1, "more bytes win no time"
    watch.heard(10, incomplete=False)
    assert clock.running == [], "a slow body or a slow answer is not its business"
    watch.heard(10, incomplete=True)
    assert len(clock.running) == 1
    clock.running[0].ring()
    assert clock.said.startswith(b"HTTP/1.1 408")
    assert clock.closed
    assert clock.running == []


def test_the_size_of_each_head_counts_for_itself() -> None:
    clock = Clock()
    watch = HeadWatch(clock, clock, limit_s=1)  # type: ignore[arg-type]
    for _ in range(3):
        watch.heard(MAX_HEAD_BYTES, incomplete=True)
        watch.heard(1, incomplete=False)
    assert not clock.closed
    watch.heard(MAX_HEAD_BYTES, incomplete=True)
    watch.heard(1, incomplete=True)
    assert clock.said.startswith(b"HTTP/1.1 431")


@pytest.mark.parametrize("base", PATIENT)
def test_a_body_that_comes_after_its_answer_is_not_a_head(base: type[Any]) -> None:
    """A refused upload goes on for a while; the connection must live until its end."""
    size = 40 * MAX_HEAD_BYTES
    with live_server(app, http=base) as url, socket.create_connection(address(url), timeout=10) as client:
        client.sendall(b"POST /early HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % size)
        first = client.recv(65536)
        client.sendall(bytes(size))
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        rest = read_until_closed(client)
    assert first.startswith(b"HTTP/1.1 200")
    assert rest.startswith(b"HTTP/1.1 200")


def test_a_head_without_end_is_cut() -> None:
    """h11 has its own limit, which uvicorn answers with 400."""
    for base, status in ((WatchedHttpTools, b"431"), (WatchedH11, b"400")):
        with live_server(app, http=base) as url, socket.create_connection(address(url), timeout=5) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: ")
            received = b""
            try:
                for _ in range(64):
                    client.sendall(b"y" * 65536)
                received = read_until_closed(client)
            except (ConnectionResetError, BrokenPipeError):
                continue  # cut while we were still sending: that is what it is for
            assert received.startswith(b"HTTP/1.1 " + status)


def test_the_fast_parser_is_chosen_where_it_is_installed() -> None:
    assert protocol() is WatchedHttpTools
