import asyncio
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def listening(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """A notify socket as systemd opens it, and its address as NOTIFY_SOCKET tells it."""
    name = f"@hearth-test-{os.getpid()}" if request.param == "abstract" else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind("\0" + name[1:] if name.startswith("@") else name)
        receiver.settimeout(5)
        yield name, receiver


def news(receiver: socket.socket) -> list[str]:
    return receiver.recv(4096).decode().split("\n")


def silent(receiver: socket.socket) -> bool:
    receiver.setblocking(False)
    try:
        receiver.recv(4096)
    except BlockingIOError:
        return True
    return False


def test_each_state_is_one_datagram(listening: tuple[str, socket.socket]) -> None:
    address, receiver = listening
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": address})
    notifier.ready("listening on\n127.0.0.1")
    assert news(receiver) == ["READY=1", "STATUS=listening on 127.0.0.1"]
    notifier.ready()
    assert news(receiver) == ["READY=1"]
    notifier.status("3 models")
    assert news(receiver) == ["STATUS=3 models"]
    notifier.stopping("waiting for running jobs")
    assert news(receiver) == ["STOPPING=1", "STATUS=waiting for running jobs"]


def test_reloading_tells_the_monotonic_time(listening: tuple[str, socket.socket]) -> None:
    address, receiver = listening
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    Notifier(address).reloading("reading the configuration")
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    first, moment, status = news(receiver)
    assert (first, status) == ("RELOADING=1", "STATUS=reading the configuration")
    assert before <= int(moment.removeprefix("MONOTONIC_USEC=")) <= after


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1"}])
def test_without_a_socket_nothing_happens(environment: dict[str, str]) -> None:
    notifier = Notifier.from_environment({**environment, "WATCHDOG_USEC": "1000"})
    notifier.ready("x")
    notifier.stopping()
    asyncio.run(asyncio.wait_for(notifier.watchdog(), 5))


def test_news_that_cannot_be_sent_are_dropped(tmp_path: Path) -> None:
    Notifier(str(tmp_path / "nobody")).ready()
    Notifier("/" + "x" * 200).ready()


def test_a_full_socket_does_not_block(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(path)
        notifier = Notifier(path)
        began = time.monotonic()
        for _ in range(2000):
            notifier.status("x" * 500)
        assert time.monotonic() - began < 5


def test_the_watchdog_is_pinged_twice_in_its_time(listening: tuple[str, socket.socket]) -> None:
    address, receiver = listening
    slept: list[float] = []

    async def scenario() -> None:
        real = asyncio.sleep

        async def sleep(seconds: float) -> None:
            slept.append(seconds)
            if len(slept) == 3:
                raise asyncio.CancelledError
            await real(0)

        asyncio.sleep = sleep  # type: ignore[assignment]
        try:
            with pytest.raises(asyncio.CancelledError):
                await Notifier.from_environment({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "30000000"}).watchdog()
        finally:
            asyncio.sleep = real

    asyncio.run(scenario())
    assert slept == [15.0, 15.0, 15.0]
    assert [news(receiver) for _ in range(3)] == [["WATCHDOG=1"]] * 3


def test_a_blocked_loop_sends_no_ping(listening: tuple[str, socket.socket]) -> None:
    address, receiver = listening

    async def scenario() -> None:
        pinging = asyncio.create_task(Notifier(address, watchdog_s=0.02).watchdog())
        await asyncio.sleep(0)
        assert news(receiver) == ["WATCHDOG=1"]
        time.sleep(0.1)  # the loop stands still for five times the watchdog's time
        assert silent(receiver)
        pinging.cancel()

    asyncio.run(scenario())


def test_a_server_that_says_it_is_stuck_sends_no_ping(listening: tuple[str, socket.socket]) -> None:
    address, receiver = listening
    answers = iter([True, False, False])

    async def scenario() -> None:
        with pytest.raises(RuntimeError):  # the iterator has run out: all three were asked
            await Notifier(address, watchdog_s=1e-6).watchdog(lambda: next(answers))

    asyncio.run(scenario())
    assert news(receiver) == ["WATCHDOG=1"]
    assert silent(receiver)


@pytest.mark.parametrize(
    ("environment", "watched"),
    [
        ({"WATCHDOG_USEC": "20"}, True),
        ({"WATCHDOG_USEC": "20", "WATCHDOG_PID": str(os.getpid())}, True),
        ({"WATCHDOG_USEC": "20", "WATCHDOG_PID": "1"}, False),
        ({"WATCHDOG_USEC": "0"}, False),
        ({"WATCHDOG_USEC": "soon"}, False),
        ({"WATCHDOG_USEC": "-5"}, False),
        ({}, False),
    ],
)
def test_only_the_watched_process_pings(
    environment: dict[str, str], watched: bool, listening: tuple[str, socket.socket]
) -> None:
    address, receiver = listening

    async def scenario() -> None:
        notifier = Notifier.from_environment({"NOTIFY_SOCKET": address, **environment})
        pinging = asyncio.create_task(notifier.watchdog())
        await asyncio.sleep(0)
        assert pinging.done() is not watched
        pinging.cancel()

    asyncio.run(scenario())
    assert silent(receiver) is not watched
