"""The child's main: one process, one model, one thread.

    python -m server.workers.child FD PARENT

`FD` is an inherited end of a socket pair, `PARENT` the process id of its other end. The loop drains it, hands new work
to the engine, advances the engine by one step and sends what came out, one frame a step. It ends when told to or when
the parent has gone. An error that escapes from the engine's step ends the process: nobody knows what state it left.
"""

import contextlib
import ctypes
import importlib
import logging
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any, NoReturn

from server.core.errors import Broken, LoadFailed, OutOfMemory, ProtocolError, ServerError
from server.core.jobs import CancelMode, JobFailed, Outcome
from server.core.models import ModelCard, Runtime
from server.engines import LOADERS, WARMERS
from server.engines.base import Engine, Loader, WarmLoader
from server.engines.meminfo import process_bytes
from server.workers.link import Link, LinkClosed, SocketLink
from server.workers.prefetch import prefetch
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
    Warm,
    Warmed,
)

logger = logging.getLogger(__name__)

PR_SET_PDEATHSIG = 1
OOM_SCORE = "500"


class Child:
    """Runs one engine between a link's two directions."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def main(self) -> None:
        """Load the model that the first message names and serve it until told to stop.

        A spare worker is told to warm up before, and then waits for its model.

        Raises:
            LinkClosed: the parent has gone.
        """
        self._link.send(Hello(protocol=PROTOCOL, pid=os.getpid()))
        first, warm = self._link.receive(wait=True), None
        if isinstance(first, Warm):
            warm = _warm(first)
            self._link.send(Warmed(held=warm.held if warm else process_bytes()))
            first = self._link.receive(wait=True)
        if not isinstance(first, Load):
            logger.info("the first message was no load but %s", type(first).__name__)
            return
        engine = self._load(first, warm)
        if engine is None:
            return
        try:
            self._link.send(Loaded(facts=engine.facts))
            self._serve(engine)
        finally:
            engine.close()

    def _load(self, message: Load, warm: WarmLoader | None) -> Engine | None:
        def report(fraction: float) -> None:
            self._link.send(LoadProgress(fraction=fraction))

        model = message.card.id
        if message.card.runtime is Runtime.DIFFUSION:
            prefetch(message.card.files)
        try:
            loader = warm.loader if warm and warm.runtime is message.card.runtime else _loader(message.card)
            return loader.load(message.card, message.settings, report)
        except LinkClosed:
            raise
        except ServerError as error:
            self._link.send(NotLoaded(error=error.to_data()))
        except MemoryError:
            logger.exception("loading failed")
            reason = OutOfMemory(f"there is not enough memory to load model {model!r}", model=model, device="cpu")
            self._link.send(NotLoaded(error=reason.to_data()))
        except Exception as error:
            logger.exception("loading failed")
            text = f"model {model!r} could not be loaded ({type(error).__name__}); the log has the details"
            self._link.send(NotLoaded(error=LoadFailed(text, model=model).to_data()))
        return None

    def _serve(self, engine: Engine) -> None:
        while True:
            refused: list[Outcome] = []
            message = self._link.receive(wait=engine.is_idle())
            while message is not None:
                if not self._take(engine, message, refused):
                    return
                message = self._link.receive(wait=False)
            self._send(engine, refused + engine.step())

    def _take(self, engine: Engine, message: Down, refused: list[Outcome]) -> bool:
        """Hand a message to the engine; tell whether to go on."""
        match message:
            case Run(job=job, work=work):
                try:
                    engine.submit(job, work)
                except ServerError as error:
                    refused.append(JobFailed(job, error.to_data()))
                except Exception:
                    logger.exception("job=%s was not accepted", job)
                    refused.append(JobFailed(job, Broken("the engine failed; the log has the details").to_data()))
            case Cancel(job=job, mode=mode):
                engine.cancel(job, mode)
            case Load():
                raise ProtocolError("a worker loads one model in its life")
            case _:
                return False
        return True

    def _send(self, engine: Engine, items: list[Outcome]) -> None:
        """Send a step's outcomes in one frame; one that cannot travel costs its own job and no other."""
        if not items:
            return
        try:
            self._link.send(Outcomes(items=items))
        except ProtocolError as error:
            if len(items) > 1:
                for item in items:
                    self._send(engine, [item])
                return
            logger.error("job=%s sent what cannot travel: %s", items[0].job, error)
            engine.cancel(items[0].job, CancelMode.ABANDON)
            self._link.send(Outcomes(items=[JobFailed(items[0].job, error.to_data())]))


def _loader(card: ModelCard) -> Loader:
    if card.runtime is None:
        raise LoadFailed(f"model {card.id!r} is not one that an engine can run", model=card.id)
    made: Loader = _named(LOADERS[card.runtime])()
    return made


def _warm(message: Warm) -> WarmLoader | None:
    if message.runtime not in WARMERS:
        return None
    made: WarmLoader = _named(WARMERS[message.runtime])(message.room)
    return made


def _named(place: str) -> Any:
    """Return what stands at "module:name"."""
    module, name = place.split(":")
    return getattr(importlib.import_module(module), name)


def _settle(parent: int) -> None:
    """Die with the parent, leave the terminal's signals to it, and be the first whom the kernel's OOM killer takes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            sys.exit(1)
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(OOM_SCORE)


def _end(status: int) -> NoReturn:
    """End without the interpreter's farewell, in which native libraries may hang or crash after all was well."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def main() -> NoReturn:
    """Run as a worker over the inherited socket."""
    descriptor, parent = int(sys.argv[1]), int(sys.argv[2])
    _settle(parent)
    logging.basicConfig(level=logging.INFO, format="level=%(levelname)s logger=%(name)s %(message)s")
    end = socket.socket(fileno=descriptor)
    # What the engine may start must not keep the link open after us.
    end.set_inheritable(False)
    link = SocketLink(end)
    status = 0
    try:
        Child(link).main()
    except LinkClosed:
        logger.info("the parent has gone")
    except Exception:
        logger.exception("the worker ends")
        status = 1
    link.close()
    _end(status)


if __name__ == "__main__":
    main()
