"""The server in places where programs stumble: no home, no locale, no place to write, a log that nobody reads."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest

from tests.support.running import END_LIMIT_S, ROOT, Running
from tests.support.waiting import until

BARE = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def started(place: str, models: Path, environment: Mapping[str, str]) -> tuple["subprocess.Popen[str]", str]:
    """Start the server in a folder with nothing but this environment; return it with its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "server", "serve", "--port", "0", "--models", str(models)],
        cwd=place,
        env={**BARE, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    said = process.stdout.readline()
    return process, said.rpartition(" ")[2].strip()


def ended(process: "subprocess.Popen[str]") -> int:
    process.send_signal(signal.SIGTERM)
    try:
        return process.wait(END_LIMIT_S)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "TZ": "Nowhere/Land", "HOME": "/proc/none"},
        {"HOME": "", "TMPDIR": "/proc/none", "XDG_STATE_HOME": "/proc/none"},
    ],
)
def test_it_starts_without_a_home_a_locale_or_a_place_to_write(tmp_path: Path, environment: dict[str, str]) -> None:
    models = tmp_path / "mödels \U0001f600"
    models.mkdir()
    if "HOME" not in environment:
        environment = {**environment, "HEARTH_STATE_DIR": str(tmp_path / "state")}
    process, url = started("/proc", models, environment)
    try:
        assert url.startswith("http"), process.stderr and process.stderr.read()
        assert httpx.get(f"{url}/health", trust_env=False).status_code == 200
        answer = httpx.post(f"{url}/sdapi/v1/options", json={"samples_format": "png"}, trust_env=False)
        assert answer.status_code < 500, answer.text
    finally:
        status = ended(process)
    assert status == 0


def test_it_goes_on_when_nobody_reads_its_log_any_more(tmp_path: Path) -> None:
    process, url = started("/", tmp_path, {"HEARTH_STATE_DIR": str(tmp_path / "state"), "HEARTH_LOG_LEVEL": "debug"})
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stderr.close()
        with httpx.Client(base_url=url, trust_env=False) as client:
            for _ in range(50):  # each is logged
                assert client.get("/v1/models", headers={"host": "evil.example"}).status_code == 403
            assert client.get("/health").status_code == 200
    finally:
        status = ended(process)
    assert status == 0


def test_a_hang_up_signal_reads_the_folders_and_harms_nobody(tmp_path: Path) -> None:
    models = tmp_path / "models"
    (models / "text").mkdir(parents=True)
    with Running(models, tmp_path, config="[models]\nrescan_s = 0\n") as server:
        (models / "text" / "new.gguf").write_bytes(b"GGUF, or not")
        assert server.http.get("/hearth/v1/models").json()["models"] == []
        for _ in range(3):
            server.signal(signal.SIGHUP)
        until(lambda: server.http.get("/hearth/v1/models").json()["models"])
        assert server.process.poll() is None
        assert server.http.get("/health").status_code == 200
