"""Starts `hearth serve` for a benchmark, as a user would, and ends it."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx


class House:
    """A running server; `seconds_to_listen` is from the start of the process to the first 200 of /health."""

    def __init__(self, models: Path, state: Path, *, config: str = "") -> None:
        self._file = state / "bench.toml"
        state.mkdir(parents=True, exist_ok=True)
        self._file.write_text(config)
        self._models, self._state = models, state

    def __enter__(self) -> Self:
        environment = os.environ | {"HEARTH_STATE_DIR": str(self._state)}
        command = [sys.executable, "-m", "server", "serve", "--config", str(self._file), "--models", str(self._models)]
        began = time.perf_counter()
        self._log = (self._state / "server.log").open("wb")
        port = free_port()
        self._process = subprocess.Popen(
            [*command, "--port", str(port)], env=environment, stdout=self._log, stderr=self._log
        )
        self.url = f"http://127.0.0.1:{port}"
        with httpx.Client(timeout=5, trust_env=False) as client:
            while True:
                try:
                    if client.get(f"{self.url}/health").status_code == 200:
                        break
                except httpx.TransportError:
                    time.sleep(0.005)
                if self._process.poll() is not None:
                    raise RuntimeError(f"the server ended: {(self._state / 'server.log').read_text()[-2000:]}")
        self.seconds_to_listen = time.perf_counter() - began
        return self

    @property
    def pid(self) -> int:
        """Return the server's process id."""
        return self._process.pid

    @property
    def parent_mib(self) -> float:
        """Return the resident memory of the parent process."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        return int(found[1]) / 1024 if found else 0.0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._log.close()


def free_port() -> int:
    """Return a port that nobody listens on now."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
