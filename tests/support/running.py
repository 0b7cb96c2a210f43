"""A real `hearth serve` in a process of its own, as a user starts it, and the other verbs of the command."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

import httpx

from tests.support.live_server import address
from tests.support.waiting import until

ROOT = Path(__file__).resolve().parents[2]
START_LIMIT_S = 60.0
END_LIMIT_S = 20.0
NOTHING: Mapping[str, str] = MappingProxyType({})


def hearth_environment(state: Path, extra: Mapping[str, str] = NOTHING) -> dict[str, str]:
    """Return the environment for the command: ours without what would configure it, with a state folder of its own."""
    private = ("HEARTH_", "NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(private)}
    own = {"HEARTH_STATE_DIR": str(state), "HEARTH_STARTER": "never", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return kept | own | dict(extra)


def hearth(*arguments: str, folder: Path, extra: Mapping[str, str] = NOTHING) -> subprocess.CompletedProcess[str]:
    """Run a verb of the command in `folder` to its end; return its status and what it wrote."""
    return subprocess.run(
        [sys.executable, "-m", "server", *arguments],
        cwd=folder,
        env=hearth_environment(folder / "state", extra),
        capture_output=True,
        text=True,
        timeout=START_LIMIT_S,
        check=False,
    )


class Running:
    """Starts on entry, on a free port, and is ended on exit; `url` is where it listens.

    `folder` takes its configuration, its state and `server.log`, which holds what it wrote to standard error.
    """

    def __init__(
        self,
        models: Path,
        folder: Path,
        *,
        config: str = "",
        arguments: tuple[str, ...] = (),
        environment: Mapping[str, str] = NOTHING,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.toml").write_text(config)
        self._folder, self._environment = folder, environment
        self._command = [sys.executable, "-m", "server", "serve", "--port", "0", "--models", str(models)]
        self._command += ["--config", str(folder / "config.toml"), *arguments]
        self.log = folder / "server.log"
        self.url = ""
        self.said: list[str] = []
        self._news = threading.Condition()
        self._silent = False

    def __enter__(self) -> Self:
        environment = hearth_environment(self._folder / "state", self._environment)
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self._command, cwd=self._folder, env=environment, stdout=subprocess.PIPE, stderr=log, text=True
            )
        self._reader = threading.Thread(target=self._read, name="what the server says")
        self._reader.start()
        try:
            self.url = self._address()
        except BaseException:
            self._end()
            raise
        self.http = self.client()
        return self

    def client(self, **settings: Any) -> httpx.Client:
        """Return another client of the server, with connections of its own; the caller closes it."""
        return httpx.Client(**{"base_url": self.url, "timeout": 120, "trust_env": False, **settings})

    def asked(self, path: str, body: Any) -> socket.socket:
        """Send a POST on a connection of its own and return that, unread; leaving its context is hanging up."""
        content = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        connection = socket.create_connection(address(self.url), timeout=END_LIMIT_S)
        connection.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
        return connection

    def hears(self, wanted: Callable[[str], bool], limit_s: float = START_LIMIT_S) -> str | None:
        """Return the first line of standard output that is wanted; None when the output ends without it."""

        def found() -> str | None:
            return next((line for line in self.said if wanted(line)), None)

        with self._news:
            self._news.wait_for(lambda: found() is not None or self._silent, limit_s)
            return found()

    def logs(self, text: str, limit_s: float = END_LIMIT_S) -> None:
        """Wait until the log holds a text."""
        until(lambda: text in self.log.read_text(), limit_s)

    def loaded(self) -> dict[str, dict[str, Any]]:
        """Return the residents by model as the side door tells them: `state`, `pid`, `jobs`, `resident` ..."""
        models = self.http.get("/hearth/v1/models").json()["models"]
        return {entry["id"]: entry["loaded"] for entry in models if entry["loaded"]}

    def pids(self) -> dict[str, int]:
        """Return the process ids of the workers by model."""
        return {model: entry["pid"] for model, entry in self.loaded().items() if entry["pid"]}

    def jobs(self, *states: str) -> list[dict[str, Any]]:
        """Return the jobs in these states, in all with none given."""
        jobs = self.http.get("/hearth/v1/jobs").json()["jobs"]
        return [job for job in jobs if not states or job["state"] in states]

    def signal(self, number: signal.Signals) -> None:
        """Send the server a signal."""
        self.process.send_signal(number)

    def ended(self, limit_s: float = END_LIMIT_S) -> int:
        """Wait for the end of the process and return its exit status."""
        return self.process.wait(limit_s)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._news:
                self.said.append(line.rstrip())
                self._news.notify_all()
        with self._news:
            self._silent = True
            self._news.notify_all()

    def _address(self) -> str:
        line = self.hears(lambda line: line.startswith("Hearth listens on "))
        found = re.search(r"http://\S+", line or "")
        if found is None:
            raise RuntimeError(f"the server did not start: {self.log.read_text()[-3000:]}")
        return found[0]

    def _end(self) -> None:
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
            try:
                self.process.wait(END_LIMIT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._reader.join(END_LIMIT_S)
        if self.process.stdout is not None:
            self.process.stdout.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.http.close()
        self._end()


def resident_bytes(pid: int) -> int:
    """Return the resident set of a process in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(pid)


def is_alive(pid: int) -> bool:
    """Tell whether a process is there and no zombie."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
