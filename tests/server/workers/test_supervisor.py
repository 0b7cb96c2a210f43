"""Workers as real child processes of the fake engine."""

import asyncio
import importlib.util
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.core.errors import LoadFailed, OutOfMemory, ProtocolError
from server.core.jobs import CancelMode, JobDone, JobEvent, JobFailed, JobId, Outcome
from server.core.models import ModelCard, Runtime, TextSettings
from server.core.text import TextDelta
from server.workers import supervisor
from server.workers.framing import encode
from server.workers.protocol import PROTOCOL, Hello, Stop
from server.workers.supervisor import TAIL_LINES, Worker, child_environment
from tests.support.aio import asynchronous
from tests.support.builders import chat, completion, endless
from tests.support.fakes import text_model

JOB, OTHER = JobId("job"), JobId("other")


class Ear:
    """Hears a worker's outcomes; `until` waits for one that fits."""

    def __init__(self) -> None:
        self.items: list[Outcome] = []
        self._news = asyncio.Event()

    def __call__(self, items: list[Outcome]) -> None:
        self.items += items
        self._news.set()

    async def until(self, *kinds: type[object], job: JobId = JOB) -> Outcome:
        while True:
            for item in self.items:
                if item.job == job and isinstance(getattr(item, "event", item), kinds):
                    return item
            self._news.clear()
            await self._news.wait()


async def started(model: ModelCard, ear: Ear | None = None) -> Worker:
    worker = await Worker.spawn("w", on_outcomes=ear or Ear())
    await worker.load(model, TextSettings())
    return worker


async def line(worker: Worker, text: str) -> None:
    """Wait for a line of the worker's output."""
    while not any(text in found for found in worker.tail()):
        await asyncio.sleep(0)


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.fixture(scope="module")
def uvloop_once() -> None:
    """Let uvloop open the two descriptors that it keeps for the process's life."""
    if importlib.util.find_spec("uvloop"):
        uvloop = importlib.import_module("uvloop")
        uvloop.new_event_loop().close()


@pytest.fixture(autouse=True)
def no_descriptor_is_left(uvloop_once: None) -> Iterator[None]:
    before = descriptors()
    yield
    assert descriptors() <= before


@asynchronous
async def test_a_life_without_trouble(tmp_path: Path) -> None:
    ear = Ear()
    worker = await Worker.spawn("w", on_outcomes=ear)
    facts = await worker.load(text_model(tmp_path, slots=3, context=100), TextSettings())
    assert (facts.slots, facts.context, worker.fraction) == (3, 100, 1.0)
    assert worker.alive
    assert worker.pid != os.getpid()
    worker.run(JOB, chat("a b c"))
    await ear.until(JobDone)
    events = [item.event for item in ear.items if isinstance(item, JobEvent)]
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "a b c"
    await worker.stop()
    assert not worker.alive


@asynchronous
async def test_a_spare_is_warmed_and_engaged_later(tmp_path: Path) -> None:
    ear = Ear()
    worker = await Worker.spawn("spare", on_outcomes=Ear())
    warming = asyncio.create_task(worker.warm(Runtime.FAKE_IMAGE))
    await asyncio.sleep(0)
    worker.engage("w", on_outcomes=ear)
    assert (await worker.load(text_model(tmp_path), TextSettings())).slots > 0
    assert await warming > 0
    worker.run(JOB, chat("a"))
    await ear.until(JobDone)
    await worker.stop()
    assert (worker.name, worker.ended_loading) == ("w", False)


@asynchronous
async def test_a_spare_that_ends_while_it_warms_up_tells_both_who_wait() -> None:
    worker = await Worker.spawn("spare", on_outcomes=Ear())
    worker.kill()
    with pytest.raises(LoadFailed):
        await worker.warm(Runtime.FAKE_IMAGE)
    await worker.stop()
    assert worker.ended_loading


@asynchronous
async def test_the_end_is_told_once_with_how(tmp_path: Path) -> None:
    worker = await started(text_model(tmp_path))
    told: asyncio.Queue[str] = asyncio.Queue()
    worker.when_gone(told.put_nowait)
    worker.kill()
    assert await told.get() == "killed by SIGKILL"
    await worker.stop()
    assert told.empty()
    worker.when_gone(told.put_nowait)
    assert told.get_nowait() == "killed by SIGKILL"


@pytest.mark.parametrize(
    ("fault", "how"),
    [
        ("abort", "killed by SIGABRT"),
        ("segv", "killed by SIGSEGV"),
        ("kill", "killed by SIGKILL"),
        ("exit", "status 3"),
    ],
)
@asynchronous
async def test_what_was_sent_before_a_crash_comes_before_its_news(tmp_path: Path, fault: str, how: str) -> None:
    ear = Ear()
    worker = await started(text_model(tmp_path), ear)
    told: asyncio.Future[tuple[str, int]] = asyncio.get_running_loop().create_future()
    worker.when_gone(lambda end: told.set_result((end, len(ear.items))))
    worker.run(JOB, chat(f"a b fault:{fault}:3 d e"))
    end, heard = await told
    assert how in end
    assert heard == len(ear.items) == 4  # started and three words


@asynchronous
async def test_the_last_lines_of_a_crash_are_kept(tmp_path: Path) -> None:
    worker = await started(text_model(tmp_path, noise=2 * TAIL_LINES))
    told: asyncio.Queue[str] = asyncio.Queue()
    worker.when_gone(told.put_nowait)
    worker.run(JOB, chat("fault:abort"))
    await told.get()
    tail = worker.tail()
    assert len(tail) == TAIL_LINES
    assert "fake fault: abort" in "".join(tail)
    assert any("Fatal Python error" in line for line in tail)


@asynchronous
async def test_a_last_line_without_its_end_is_kept_too(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import sys; sys.stderr.write('half a line')"
    monkeypatch.setattr(supervisor, "child_command", lambda _: [sys.executable, "-c", code])
    worker = await Worker.spawn("w", on_outcomes=Ear())
    await worker.stop()
    assert worker.tail() == ["half a line"]


@asynchronous
async def test_a_failed_load_says_what_the_engine_said(tmp_path: Path) -> None:
    worker = await Worker.spawn("w", on_outcomes=Ear())
    with pytest.raises(LoadFailed, match="tensor 7"):
        await worker.load(text_model(tmp_path, fail_load="tensor 7 is missing"), TextSettings())
    await worker.stop()


@asynchronous
async def test_a_device_without_memory_keeps_its_error_class(tmp_path: Path) -> None:
    worker = await Worker.spawn("w", on_outcomes=Ear())
    with pytest.raises(OutOfMemory) as caught:
        await worker.load(text_model(tmp_path, fault="oom", while_loading=True), TextSettings())
    assert caught.value.fact("device") == "fake:0"
    await worker.stop()


@asynchronous
async def test_a_crash_while_loading_is_a_failed_load(tmp_path: Path) -> None:
    worker = await Worker.spawn("w", on_outcomes=Ear())
    with pytest.raises(LoadFailed, match="SIGKILL"):
        await worker.load(text_model(tmp_path, fault="kill", while_loading=True), TextSettings())
    await worker.stop()


@asynchronous
async def test_a_load_that_nobody_waits_for_any_more_can_be_killed(tmp_path: Path) -> None:
    worker = await Worker.spawn("w", on_outcomes=Ear())
    loading = asyncio.create_task(worker.load(text_model(tmp_path, fault="hang", while_loading=True), TextSettings()))
    await asyncio.wait([loading], timeout=0.01)
    loading.cancel()
    worker.kill()
    await worker.stop()
    assert loading.cancelled()


@pytest.mark.parametrize(("mode", "last"), [(CancelMode.STOP, "cancelled"), (CancelMode.ABANDON, None)])
@asynchronous
async def test_cancel(tmp_path: Path, mode: CancelMode, last: str | None) -> None:
    ear = Ear()
    worker = await started(text_model(tmp_path, context=10**6, step_ms=1), ear)
    worker.run(JOB, endless())
    worker.run(OTHER, endless())
    await ear.until(TextDelta)
    worker.cancel(JOB, mode)
    await ear.until(JobDone)
    events = [item.event for item in ear.items if isinstance(item, JobEvent) and item.job == JOB]
    assert getattr(events[-1], "reason", None) == last
    worker.cancel(OTHER, CancelMode.ABANDON)
    await ear.until(JobDone, job=OTHER)
    await worker.stop()


@asynchronous
async def test_the_ladder_reaches_a_worker_that_does_not_listen(tmp_path: Path) -> None:
    worker = await started(text_model(tmp_path))
    told: list[str] = []
    worker.when_gone(told.append)
    worker.run(JOB, chat("a fault:hang:1"))
    await line(worker, "fake fault: hang")
    await worker.stop(grace_s=0.05)
    assert told == ["killed by SIGTERM"]


@asynchronous
async def test_the_ladder_ends_with_sigkill(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import signal, sys; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); signal.pause()"
    monkeypatch.setattr(supervisor, "child_command", lambda _: [sys.executable, "-c", code])
    worker = await Worker.spawn("w", on_outcomes=Ear())
    told: list[str] = []
    worker.when_gone(told.append)
    await line(worker, "ready")
    await worker.stop(grace_s=0.01, term_grace_s=0.05)
    assert told == ["killed by SIGKILL"]


@asynchronous
async def test_a_worker_that_hangs_up_but_does_not_end_is_made_to(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import os, signal, sys; os.close(int(sys.argv[1])); signal.pause()"
    monkeypatch.setattr(supervisor, "HANG_UP_GRACE_S", 0.05)
    monkeypatch.setattr(supervisor, "child_command", lambda fd: [sys.executable, "-c", code, str(fd)])
    worker = await Worker.spawn("w", on_outcomes=Ear())
    told: asyncio.Queue[str] = asyncio.Queue()
    worker.when_gone(told.put_nowait)
    assert await told.get() == "killed by SIGKILL"


def speaker(frame: bytes) -> list[str]:
    code = f"import os, signal, sys; os.write(int(sys.argv[1]), {frame!r}); signal.pause()"
    return [sys.executable, "-c", code]


@pytest.mark.parametrize(
    "frame",
    [
        b"\x00\x00\x00\x01\xc1",
        b"\xff\xff\xff\xff",
        bytes(encode(Stop())),
        bytes(encode(Hello(protocol=PROTOCOL + 1, pid=1))),
    ],
)
@asynchronous
async def test_a_worker_that_speaks_nonsense_is_killed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, frame: bytes
) -> None:
    monkeypatch.setattr(supervisor, "child_command", lambda fd: [*speaker(frame), str(fd)])
    worker = await Worker.spawn("w", on_outcomes=Ear())
    told: asyncio.Queue[str] = asyncio.Queue()
    worker.when_gone(told.put_nowait)
    with pytest.raises(ProtocolError):
        await worker.load(text_model(tmp_path), TextSettings())
    assert await told.get() == "killed by SIGKILL"


@asynchronous
async def test_a_worker_is_killed_when_its_listener_breaks(tmp_path: Path) -> None:
    def broken(_: list[Outcome]) -> None:
        raise ZeroDivisionError

    worker = await Worker.spawn("w", on_outcomes=broken)
    await worker.load(text_model(tmp_path), TextSettings())
    told: asyncio.Queue[str] = asyncio.Queue()
    worker.when_gone(told.put_nowait)
    worker.run(JOB, chat("a"))
    assert await told.get() == "killed by SIGKILL"


@asynchronous
async def test_a_stray_grandchild_does_not_hide_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import os, signal, subprocess, sys\n"
        "stray = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'])\n"
        "print('stray', stray.pid, flush=True)\n"
        "signal.pause()\n"
    )
    monkeypatch.setattr(supervisor, "child_command", lambda _: [sys.executable, "-c", code])
    worker = await Worker.spawn("w", on_outcomes=Ear())
    told: asyncio.Queue[str] = asyncio.Queue()
    worker.when_gone(told.put_nowait)
    await line(worker, "stray")
    stray = int(worker.tail()[0].split()[1])
    worker.kill()
    try:
        assert await told.get() == "killed by SIGKILL"
    finally:
        os.kill(stray, signal.SIGKILL)


@asynchronous
async def test_a_job_that_is_too_large_raises_and_harms_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ear = Ear()
    worker = await started(text_model(tmp_path), ear)
    monkeypatch.setattr("server.workers.framing.MAX_FRAME", 1000)
    with pytest.raises(ProtocolError):
        worker.run(JOB, completion("x" * 2000))
    worker.run(OTHER, completion("x"))
    await ear.until(JobDone, job=OTHER)
    await worker.stop()


@asynchronous
async def test_a_failed_job_is_told(tmp_path: Path) -> None:
    ear = Ear()
    worker = await started(text_model(tmp_path, context=2), ear)
    worker.run(JOB, chat("far too many words"))
    failed = await ear.until(JobFailed)
    assert isinstance(failed, JobFailed)
    assert failed.error.code == "context_too_long"
    await worker.stop()


@pytest.mark.parametrize("what", ["socket.socketpair", "asyncio.create_subprocess_exec"])
@asynchronous
async def test_a_spawn_that_fails_is_a_failed_load_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(what, refuse)
    with pytest.raises(LoadFailed, match="Too many open files"):
        await Worker.spawn("w", on_outcomes=Ear())


@asynchronous
async def test_a_spawn_that_is_cancelled_leaves_nothing() -> None:
    # At whatever await it is met: each round lets it come one turn of the event loop further.
    for turns in range(8):
        task = asyncio.create_task(Worker.spawn("w", on_outcomes=Ear()))
        for _ in range(turns):
            await asyncio.sleep(0)
        if task.done():
            await (await task).stop()
            continue
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if not task.cancelled():
            await task.result().stop()


def test_workers_run_under_uvloop_too(tmp_path: Path) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def live() -> None:
        ear = Ear()
        worker = await started(text_model(tmp_path), ear)
        worker.run(JOB, chat("a b fault:segv:2"))
        told: asyncio.Queue[str] = asyncio.Queue()
        worker.when_gone(told.put_nowait)
        assert await told.get() == "killed by SIGSEGV"
        assert len(ear.items) == 3

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(live())


def test_a_worker_ends_with_its_parent(tmp_path: Path) -> None:
    """A parent that is killed takes its worker along: the pipe that both hold is at its end then."""
    model = text_model(tmp_path, context=10**6, step_ms=1)
    code = f"""
import asyncio
from server.core.models import ModelCard, TextSettings
from server.core.jobs import JobId
from server.workers.supervisor import Worker
from tests.support.builders import card, endless

async def main():
    worker = await Worker.spawn("w", on_outcomes=lambda items: None)
    await worker.load(card(file={model.files[0]!r}), TextSettings())
    worker.run(JobId("job"), endless())
    print(worker.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""
    root = Path(__file__).parents[3]
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=root)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    handle = os.pidfd_open(pid)
    try:
        parent.kill()
        parent.wait()
        ended, _, _ = select.select([handle], [], [], 20.0)
        assert ended, "the worker outlives its parent"
    finally:
        os.close(handle)
        parent.stdout.close()


@asynchronous
async def test_a_worker_finds_its_own_package_in_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "server").mkdir()
    (tmp_path / "server" / "__init__.py").write_text("raise ImportError('the wrong server')")
    monkeypatch.chdir(tmp_path)
    worker = await started(text_model(tmp_path))
    await worker.stop()


def test_a_worker_gets_no_secrets() -> None:
    own = {
        "PATH": "/bin",
        "HOME": "/home/x",
        "HF_TOKEN": "t",
        "OPENAI_API_KEY": "k",
        "my_password": "p",
        "HEARTH_KEYS": "a",
        "HEARTH_MODELS": "b",
        "NOTIFY_SOCKET": "s",
        "WATCHDOG_USEC": "1",
        "LISTEN_FDS": "1",
        "CUDA_VISIBLE_DEVICES": "0",
        "OMP_NUM_THREADS": "1",
    }
    given = child_environment(own)
    assert {name for name in given if name in own} == {"PATH", "HOME", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"}
    assert given["HF_HUB_OFFLINE"] == "1"
