"""How a real `hearth serve` ends: signals, streams that are finished first, exit statuses, no process left behind."""

import contextlib
import json
import os
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.support.running import Running, is_alive
from tests.support.tiny_models import needs_llama, tiny_models
from tests.support.waiting import until

pytestmark = [pytest.mark.llama, needs_llama]

CONTEXT = 16384
CONFIG = f"[text]\ncontext = {CONTEXT}\nslots = 2\nthreads = 1\n"
CHAT = "/v1/chat/completions"
LONG = 1000
ENDLESS = -1


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models(tmp_path_factory.mktemp("draining"), text=("tiny",), context=CONTEXT)


@pytest.fixture
def server(models: Path, tmp_path: Path) -> Iterator[Running]:
    with Running(models, tmp_path, config=CONFIG) as running:
        yield running


def body(tokens: int) -> dict[str, object]:
    messages = [{"role": "user", "content": "tell it"}]
    return {"model": "tiny", "messages": messages, "stream": True, "max_tokens": tokens, "ignore_eos": True}


class Stream:
    """A streamed chat, read up to its first word."""

    def __init__(self, server: Running, tokens: int) -> None:
        self._context = server.http.stream("POST", CHAT, json=body(tokens))

    def __enter__(self) -> "Stream":
        self._response = self._context.__enter__()
        assert self._response.status_code == 200
        self._lines = self._response.iter_lines()
        next(line for line in self._lines if '"content":"' in line)
        return self

    def rest(self) -> list[str]:
        """Return what each further frame holds."""
        return [line.removeprefix("data: ") for line in self._lines if line.startswith("data: ")]

    def __exit__(self, *_: object) -> None:
        self._context.__exit__(None, None, None)


@contextlib.contextmanager
def standing_still(pid: int) -> Iterator[None]:
    """Stop a process for a while: what it does cannot end before it was looked at, however fast the machine is."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_sigterm_lets_a_running_stream_end_and_takes_nothing_new(server: Running) -> None:
    server.http.post("/hearth/v1/models/load", json={"model": "tiny"}).raise_for_status()
    workers = server.pids()
    with Stream(server, LONG) as stream, server.client() as other:
        with standing_still(workers["tiny"]):
            server.signal(signal.SIGTERM)
            health = until(lambda: (told := other.get("/health")).status_code == 503 and told)
            refused = other.post(CHAT, json=body(LONG))
        assert health.json()["ready"] is False
        assert health.headers["retry-after"]
        assert refused.status_code == 503
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert refused.json()["error"]["code"] == "shutting_down"
        *chunks, done = stream.rest()
        assert done == "[DONE]"
        assert json.loads(chunks[-1])["choices"][0]["finish_reason"] == "length"
    assert server.ended() == 0
    assert not [pid for pid in workers.values() if is_alive(pid)]


def test_a_second_signal_ends_at_once(server: Running) -> None:
    with Stream(server, ENDLESS) as stream:
        workers = server.pids()
        server.signal(signal.SIGTERM)
        server.logs("waiting for running jobs")
        server.signal(signal.SIGTERM)
        with pytest.raises(httpx.RemoteProtocolError):
            stream.rest()
    server.ended()
    assert "Traceback" not in server.log.read_text()
    until(lambda: not [pid for pid in workers.values() if is_alive(pid)])
    with pytest.raises(httpx.ConnectError), server.client() as late:
        late.get("/health")


def test_what_takes_too_long_is_told_so_in_its_stream(models: Path, tmp_path: Path) -> None:
    with (
        Running(models, tmp_path, config=f"{CONFIG}[server]\ndrain_s = 0.3\n") as server,
        Stream(server, ENDLESS) as stream,
    ):
        workers = server.pids()
        server.signal(signal.SIGTERM)
        *_, last = stream.rest()
        assert json.loads(last)["error"]["code"] == "shutting_down"
        assert server.ended() == 0
        assert not [pid for pid in workers.values() if is_alive(pid)]


def test_what_waits_is_refused_when_the_server_drains(models: Path, tmp_path: Path) -> None:
    config = CONFIG.replace("slots = 2", "slots = 1")
    with (
        Running(models, tmp_path, config=config) as server,
        Stream(server, ENDLESS),
        server.client() as other,
        ThreadPoolExecutor(1) as pool,
    ):
        waiting = pool.submit(other.post, CHAT, json=body(LONG))
        until(lambda: server.jobs("waiting"))
        server.signal(signal.SIGTERM)
        assert waiting.result().status_code == 503
        assert waiting.result().json()["error"]["code"] == "shutting_down"


def test_interrupt_from_the_keyboard_ends_too(server: Running) -> None:
    server.signal(signal.SIGINT)
    assert server.ended() == 0


def test_the_worker_ends_when_the_server_is_killed(server: Running) -> None:
    with Stream(server, ENDLESS):
        workers = server.pids()
        server.signal(signal.SIGKILL)
        assert server.ended() == -signal.SIGKILL
        until(lambda: not [pid for pid in workers.values() if is_alive(pid)])


def test_systemd_hears_of_the_beginning_and_of_the_end(models: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.settimeout(20)
        systemd.bind(str(tmp_path / "notify"))
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "60000000"}
        with Running(models, tmp_path / "run", environment=environment) as server:
            heard = [systemd.recv(4096).decode().splitlines() for _ in range(2)]
            assert "READY=1" in heard[0]
            assert "WATCHDOG=1" in heard[1]
            server.signal(signal.SIGTERM)
            assert "STOPPING=1" in systemd.recv(4096).decode().splitlines()
            assert server.ended() == 0
