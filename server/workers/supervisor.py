"""The parent's side of a worker: spawn, warm up, load, run, cancel, stop, reap.

The ladder of stopping: message, grace time, SIGTERM, SIGKILL. A process that ends, for whatever reason, is told once.
Sends never wait: what can be on the way to a child is bounded by its slots, since the hall grants no more jobs.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import sysconfig
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from server.core.errors import LoadFailed, ProtocolError, ServerError, from_data
from server.core.jobs import CancelMode, JobId, Outcome, Work
from server.core.models import LoadedFacts, LoadSettings, ModelCard, Runtime
from server.workers.framing import encode, from_child
from server.workers.protocol import (
    PROTOCOL,
    Cancel,
    Down,
    Hello,
    Load,
    Loaded,
    LoadProgress,
    NotLoaded,
    Outcomes,
    Run,
    Stop,
    Up,
    Warm,
    Warmed,
)

logger = logging.getLogger(__name__)

TAIL_LINES = 50
LINE_LIMIT = 4096
CHUNK = 1 << 18
STOP_GRACE_S = 10.0
TERM_GRACE_S = 3.0
# A child that has closed its link is about to end; one that does not, hangs in its last breath.
HANG_UP_GRACE_S = 3.0
# What a dead child sent and wrote is in our pipes already; a stray grandchild may hold the one for output open.
LAST_WORDS_S = 2.0
LAST_LINES_S = 0.25
SECRET_ENDINGS = ("TOKEN", "KEY", "KEYS", "SECRET", "PASSWORD", "PASSWD", "PASS", "AUTH", "CREDENTIALS")
PRIVATE_PREFIXES = ("HEARTH_", "NOTIFY_SOCKET", "LISTEN_", "WATCHDOG_")

OnOutcomes = Callable[[list[Outcome]], None]
OnExit = Callable[[str], None]


def child_environment(own: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a worker: ours without secrets, with the hub switched off and this package in reach."""
    kept = {
        name: value
        for name, value in own.items()
        if not name.upper().endswith(SECRET_ENDINGS) and not name.startswith(PRIVATE_PREFIXES)
    }
    root = str(Path(__file__).resolve().parents[2])
    if root not in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        kept["PYTHONPATH"] = os.pathsep.join([root, *filter(None, [own.get("PYTHONPATH")])])
    # torch asks for large pages then: weights of 4 GB are a million small ones less to be cleared.
    kept.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    return kept | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


def child_command(descriptor: int) -> list[str]:
    """Return the command line of a worker with that end of a socket pair.

    `-P` keeps the working folder off the import path (it may hold another `server`); faulthandler makes a native
    crash write its Python stack among the last lines.
    """
    return [sys.executable, "-P", "-X", "faulthandler", "-m", "server.workers.child", str(descriptor), str(os.getpid())]


class Worker:
    """One child process with at most one model. Made by `spawn`; ended by `stop`, or by itself."""

    def __init__(
        self, name: str, process: asyncio.subprocess.Process, writer: asyncio.StreamWriter, *, on_outcomes: OnOutcomes
    ) -> None:
        self.name = name
        self.fraction = 0.0
        self._process = process
        self._writer = writer
        self._on_outcomes = on_outcomes
        self._on_exit: OnExit | None = None
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._warmed: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._loaded: asyncio.Future[LoadedFacts] = asyncio.get_running_loop().create_future()
        self._ended_loading = False
        self._gone = asyncio.Event()
        self._reaping: asyncio.Task[None] | None = None

    @classmethod
    async def spawn(cls, name: str, *, on_outcomes: OnOutcomes) -> "Worker":
        """Start a child process that waits for its model. `on_outcomes` is called in the event loop, once a frame.

        Raises:
            LoadFailed: the system gives no process or no descriptors.
        """
        try:
            with contextlib.ExitStack() as failed:
                process, ours, output = await _start(failed)
                reader, writer = await asyncio.open_unix_connection(sock=ours, limit=CHUNK)
                failed.callback(writer.close)
                # Not a pipe of asyncio's own: with one, a process counts as ended only once a stray grandchild,
                # which holds it open, has ended too.
                lines, listener = await asyncio.open_unix_connection(sock=output, limit=CHUNK)
                failed.pop_all()
        except OSError as error:
            text = f"no process could be started for model {name!r}: {error.strerror or type(error).__name__}"
            raise LoadFailed(text, model=name) from error
        worker = cls(name, process, writer, on_outcomes=on_outcomes)
        worker._reaping = asyncio.create_task(worker._reap(reader, lines, listener), name=f"{name}: reap")
        return worker

    @property
    def pid(self) -> int:
        """Return the process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Tell whether the process has not been reaped."""
        return not self._gone.is_set()

    @property
    def ended_loading(self) -> bool:
        """Tell whether the process ended before it had said how its load ended."""
        return self._ended_loading

    def tail(self) -> list[str]:
        """Return the last lines that the process wrote."""
        return list(self._tail)

    async def warm(self, runtime: Runtime, room: int = 0) -> int:
        """Have the libraries of a runtime imported and return the bytes of RAM that the process then holds.

        `room` of them it has ready for weights.
        A load may be asked for meanwhile; it is done next.

        Raises:
            LoadFailed: the process ended.
        """
        self._send(Warm(runtime=runtime, room=room))
        return await asyncio.shield(self._warmed)

    def engage(self, name: str, *, on_outcomes: OnOutcomes) -> None:
        """Give a worker that waits for a model to whoever has one: its name and its listener change."""
        self.name, self._on_outcomes, self._on_exit = name, on_outcomes, None

    async def load(self, card: ModelCard, settings: LoadSettings) -> LoadedFacts:
        """Load the model; raise what the engine raised, or LoadFailed when the process ended."""
        self._send(Load(card=card, settings=settings))
        return await self._loaded

    def when_gone(self, told: OnExit) -> None:
        """Have `told` called once the process has ended, with how it ended; at once when it already has."""
        self._on_exit = told
        if self._gone.is_set():
            told(self._how())

    def run(self, job: JobId, work: Work) -> None:
        """Give the worker a job; raise ProtocolError when it is too large to travel."""
        self._send(Run(job=job, work=work))

    def cancel(self, job: JobId, mode: CancelMode) -> None:
        """Ask for an early end of a job."""
        self._send(Cancel(job=job, mode=mode))

    async def stop(self, grace_s: float = STOP_GRACE_S, term_grace_s: float = TERM_GRACE_S) -> None:
        """End the process, by message, then SIGTERM, then SIGKILL; return when it has been reaped."""
        self._send(Stop())
        for grace, number in ((grace_s, signal.SIGTERM), (term_grace_s, signal.SIGKILL)):
            try:
                async with asyncio.timeout(grace):
                    await self._gone.wait()
                return
            except TimeoutError:
                logger.warning("worker=%s pid=%d does not end, sending %s", self.name, self.pid, number.name)
                _signal(self._process, number)
        await self._gone.wait()

    def kill(self) -> None:
        """End the process at once."""
        _kill(self._process)

    def _send(self, message: Down) -> None:
        frame = encode(message)
        if not self._writer.is_closing():
            self._writer.write(frame)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        frames = from_child()
        try:
            while data := await reader.read(CHUNK):
                for message in frames.feed(data):
                    self._take(message)
        except OSError as error:
            logger.debug("worker=%s pid=%d hung up: %s", self.name, self.pid, error)
        except ProtocolError as error:
            logger.error("worker=%s pid=%d speaks nonsense: %s", self.name, self.pid, error)
            self._refuse(error)
            self.kill()

    def _take(self, message: Up) -> None:
        match message:
            case Outcomes(items=items):
                self._on_outcomes(items)
            case Warmed(held=held):
                if not self._warmed.done():
                    self._warmed.set_result(held)
            case LoadProgress(fraction=fraction):
                self.fraction = fraction
            case Loaded(facts=facts):
                if not self._loaded.done():
                    self._loaded.set_result(facts)
            case NotLoaded(error=error):
                self._refuse(from_data(error))
            case Hello(protocol=protocol):
                if protocol != PROTOCOL:
                    # The package was replaced under a running server.
                    raise ProtocolError(f"the worker speaks version {protocol}, not {PROTOCOL}; restart the server")

    def _refuse(self, error: ServerError) -> None:
        waited: tuple[asyncio.Future[Any], ...] = (self._warmed, self._loaded)
        for future in waited:
            if not future.done():
                future.set_exception(error)
                # Nobody may be waiting for it: its outcome must not be reported as never retrieved.
                future.exception()

    async def _log(self, output: asyncio.StreamReader) -> None:
        rest = b""
        with contextlib.suppress(OSError):
            while data := await output.read(CHUNK):
                *lines, rest = (rest + data).split(b"\n")
                rest = rest[-LINE_LIMIT:]
                for line in lines:
                    self._keep(line)
        self._keep(rest)

    def _keep(self, line: bytes) -> None:
        text = line[:LINE_LIMIT].decode(errors="replace").rstrip()
        if text:
            self._tail.append(text)
            logger.debug("worker=%s %s", self.name, text)

    async def _reap(
        self, reader: asyncio.StreamReader, lines: asyncio.StreamReader, listener: asyncio.StreamWriter
    ) -> None:
        reading = asyncio.create_task(self._read(reader), name=f"{self.name}: messages")
        writing = asyncio.create_task(self._log(lines), name=f"{self.name}: log")
        ending = asyncio.create_task(self._process.wait(), name=f"{self.name}: end")
        try:
            await self._wait(reading, ending)
            # What the process sent and wrote before its end is taken first.
            await asyncio.wait([reading], timeout=LAST_WORDS_S)
            await asyncio.wait([writing], timeout=LAST_LINES_S)
        finally:
            for task in (reading, writing, ending):
                task.cancel()
            await asyncio.gather(reading, writing, ending, return_exceptions=True)
        await _close(self._writer)
        await _close(listener)
        how = self._how()
        self._ended_loading = not self._loaded.done()
        self._refuse(LoadFailed(f"the worker of model {self.name!r} ended while loading ({how})", model=self.name))
        self._gone.set()
        if self._on_exit is not None:
            self._on_exit(how)

    async def _wait(self, reading: asyncio.Task[None], ending: asyncio.Task[int]) -> None:
        """Return when the process has ended; a deaf or mute one is made to."""
        await asyncio.wait([reading, ending], return_when=asyncio.FIRST_COMPLETED)
        if reading.done() and reading.exception() is not None:
            # Its events can no longer be heard, so it must not go on.
            logger.error("worker=%s pid=%d cannot be heard", self.name, self.pid, exc_info=reading.exception())
            self.kill()
        if not ending.done() and not (await asyncio.wait([ending], timeout=HANG_UP_GRACE_S))[0]:
            logger.error("worker=%s pid=%d hung up but does not end, killing it", self.name, self.pid)
            self.kill()
        await ending

    def _how(self) -> str:
        code = self._process.returncode
        if code is None or code >= 0:
            return f"exit status {code}"
        try:
            return f"killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"killed by signal {-code}"


async def _start(failed: contextlib.ExitStack) -> tuple[asyncio.subprocess.Process, socket.socket, socket.socket]:
    """Start the child; return it with our ends for messages and for output. `failed` undoes all of it."""
    ours, theirs = socket.socketpair()
    failed.callback(ours.close)
    with theirs:
        output, theirs_output = socket.socketpair()
        failed.callback(output.close)
        with theirs_output:
            process = await asyncio.create_subprocess_exec(
                *child_command(theirs.fileno()),
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
                stdout=theirs_output.fileno(),
                stderr=asyncio.subprocess.STDOUT,
                env=child_environment(os.environ),
            )
    failed.callback(_kill, process)
    return process, ours, output


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)


def _kill(process: asyncio.subprocess.Process) -> None:
    _signal(process, signal.SIGKILL)
