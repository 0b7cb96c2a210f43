"""The other side: llama.cpp's own server, built outside this repository from the source in llama-cpp-python's sdist.

It is built once, in some ten minutes on two cores; a ready binary is taken from `$HEARTH_BENCH_LLAMA_SERVER`.
"""

import os
import subprocess
import time
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from bench import foreign
from bench.house import free_port

PACKAGE = "llama-cpp-python"
FLAGS = ("-DCMAKE_BUILD_TYPE=Release", "-DLLAMA_CURL=OFF", "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF")


def source() -> Path:
    """Return the folder of llama.cpp's source, of the installed llama-cpp-python; fetches it if need be."""
    return foreign.source(PACKAGE, version(PACKAGE), "vendor/llama.cpp")


def binary() -> Path:
    """Return a `llama-server` of the same source as the installed llama-cpp-python; builds it if need be."""
    if given := os.environ.get("HEARTH_BENCH_LLAMA_SERVER"):
        return Path(given)
    return foreign.build(source(), foreign.place(PACKAGE, version(PACKAGE)) / "build", FLAGS, "llama-server")


class LlamaServer:
    """A running llama-server with `slots` slots of `context` tokens each, at its defaults otherwise."""

    def __init__(self, model: Path, place: Path, *, slots: int, context: int, threads: int) -> None:
        self._model, self._place = model, place
        self._slots, self._context, self._threads = slots, context, threads

    def __enter__(self) -> Self:
        port = free_port()
        command = [str(binary()), "-m", str(self._model), "--host", "127.0.0.1", "--port", str(port), "--no-webui"]
        command += ["-np", str(self._slots), "-c", str(self._slots * self._context), "-fa", "on"]
        command += ["-t", str(self._threads), "-tb", str(self._threads)]
        self._log = (self._place / "llama-server.log").open("wb")
        self._process = subprocess.Popen(command, stdout=self._log, stderr=self._log)
        self.url = f"http://127.0.0.1:{port}"
        with httpx.Client(timeout=5, trust_env=False) as client:
            while not self._ready(client):
                if self._process.poll() is not None:
                    raise RuntimeError((self._place / "llama-server.log").read_text()[-2000:])
                time.sleep(0.05)
        return self

    def _ready(self, client: httpx.Client) -> bool:
        try:
            return client.get(f"{self.url}/health").status_code == 200
        except httpx.TransportError:
            return False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(20)
        self._log.close()
