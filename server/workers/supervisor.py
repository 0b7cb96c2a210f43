"""The parent's side of a worker: spawn, load, run, cancel, stop, reap.

The ladder of stopping: message, grace time, SIGTERM, SIGKILL. A process that ends, for whatever reason, is told once.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable

from server.core.errors import LoadFailed, ProtocolError, ServerError, from_data
from server.core.jobs import CancelMode, JobId, Outcome, Work
from server.core.models import LoadedFacts, LoadSettings, ModelCard
from server.workers.framing import encode, from_child
from server.workers.protocol import Cancel, Down, Hello, Load, Loaded, LoadProgress, NotLoaded, Outcomes, Run, Stop

logger = logging.getLogger(__name__)

TAIL_LINES = 50
LINE_LIMIT = 4096
CHUNK = 1 << 18
STOP_GRACE_S = 10.0
TERM_GRACE_S = 3.0
SECRET_ENDINGS = ("TOKEN", "KEY", "KEYS", "SECRET", "PASSWORD", "AUTH")
PRIVATE_PREFIXES = ("HEARTH_", "NOTIFY_SOCKET", "LISTEN_", "WATCHDOG_")

OnOutcomes = Callable[[list[Outcome]], None]
OnExit = Callable[[str], None]


def child_environment(own: dict[str, str]) -> dict[str, str]:
    """Return the environment of a worker: ours without secrets, and with the hub switched off."""
    kept = {
        name: value
        for name, value in own.items()
        if not name.upper().endswith(SECRET_ENDINGS) and not name.startswith(PRIVATE_PREFIXES)
    }
    return kept | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


class Worker:
    """One child process with at most one model. Made by `spawn`; ended by `stop`, or by itself."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, *, on_outcomes: OnOutcomes) -> None:
        self.name = name
        self._process = process
        self._on_outcomes = on_outcomes
        self._on_exit: OnExit | None = None
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._loaded: asyncio.Future[LoadedFacts] = asyncio.get_running_loop().create_future()
        self._gone = asyncio.Event()
        self._writer: asyncio.StreamWriter | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.fraction = 0.0

    @classmethod
    async def spawn(cls, name: str, *, on_outcomes: OnOutcomes) -> "Worker":
        """Start a child process that waits for its model. `on_outcomes` is called in the event loop, once a frame."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "server.workers.child",
                str(theirs.fileno()),
                str(os.getpid()),
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env=child_environment(dict(os.environ)),
            )
        worker = cls(name, process, on_outcomes=on_outcomes)
        reader, worker._writer = await asyncio.open_connection(sock=ours)
        worker._tasks = [
            asyncio.create_task(worker._read(reader), name=f"{name}: messages"),
            asyncio.create_task(worker._log(), name=f"{name}: log"),
            asyncio.create_task(worker._reap(), name=f"{name}: reap"),
        ]
        return worker

    @property
    def pid(self) -> int:
        """Return the process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Tell whether the process has not been reaped."""
        return not self._gone.is_set()

    def tail(self) -> list[str]:
        """Return the last lines that the process wrote."""
        return list(self._tail)

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
        """Give the worker a job."""
        self._send(Run(job=job, work=work))

    def cancel(self, job: JobId, mode: CancelMode) -> None:
        """Ask for an early end of a job."""
        self._send(Cancel(job=job, mode=mode))

    async def stop(self, grace_s: float = STOP_GRACE_S) -> None:
        """End the process, by message, then SIGTERM, then SIGKILL; return when it has been reaped."""
        self._send(Stop())
        for grace, signal_number in ((grace_s, signal.SIGTERM), (TERM_GRACE_S, signal.SIGKILL)):
            try:
                async with asyncio.timeout(grace):
                    await self._gone.wait()
                break
            except TimeoutError:
                logger.warning("worker=%s pid=%d does not end, sending %s", self.name, self.pid, signal_number.name)
                self._signal(signal_number)
        await self._gone.wait()

    def kill(self) -> None:
        """End the process at once."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def _send(self, message: Down) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(encode(message))

    async def _read(self, reader: asyncio.StreamReader) -> None:
        frames = from_child()
        try:
            while data := await reader.read(CHUNK):
                for message in frames.feed(data):
                    self._take(message)
        except OSError:
            pass
        except ProtocolError as error:
            logger.error("worker=%s pid=%d speaks nonsense: %s", self.name, self.pid, error)
            self.kill()

    def _take(self, message: Hello | LoadProgress | Loaded | NotLoaded | Outcomes) -> None:
        match message:
            case Outcomes(items=items):
                self._on_outcomes(items)
            case LoadProgress(fraction=fraction):
                self.fraction = fraction
            case Loaded(facts=facts):
                if not self._loaded.done():
                    self._loaded.set_result(facts)
            case NotLoaded(error=error):
                self._refuse(from_data(error))
            case Hello():
                logger.debug("worker=%s pid=%d is up", self.name, message.pid)

    def _refuse(self, error: ServerError) -> None:
        if not self._loaded.done():
            self._loaded.set_exception(error)

    async def _log(self) -> None:
        output = self._process.stdout
        if output is None:
            return
        rest = b""
        while data := await output.read(CHUNK):
            *lines, rest = (rest + data).split(b"\n")
            rest = rest[-LINE_LIMIT:]
            for line in lines:
                text = line[:LINE_LIMIT].decode(errors="replace").rstrip()
                if text:
                    self._tail.append(text)
                    logger.debug("worker=%s %s", self.name, text)

    async def _reap(self) -> None:
        await self._process.wait()
        # What the process sent and wrote before its end is taken first.
        await asyncio.wait(self._tasks[:2], timeout=1.0)
        for task in self._tasks[:2]:
            task.cancel()
        if self._writer is not None:
            self._writer.close()
        self._refuse(
            LoadFailed(f"the worker of model {self.name!r} ended while loading ({self._how()})", model=self.name)
        )
        # Nobody may be waiting for the load: its outcome must not be reported as never retrieved.
        self._loaded.exception() if self._loaded.done() and not self._loaded.cancelled() else None
        self._gone.set()
        if self._on_exit is not None:
            self._on_exit(self._how())

    def _how(self) -> str:
        code = self._process.returncode
        if code is not None and code < 0:
            return f"killed by {signal.Signals(-code).name}"
        return f"exit status {code}"
