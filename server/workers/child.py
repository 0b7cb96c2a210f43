"""The child's main: one process, one model, one thread.

    python -m server.workers.child FD

`FD` is an inherited end of a socket pair. The loop drains it, hands new work to the engine, advances the engine by one
step and sends what came out, one frame a step. It ends when told to or when the parent has gone.
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

from server.core.errors import Broken, LoadFailed, ProtocolError, ServerError
from server.core.jobs import JobFailed, Outcome
from server.core.models import ModelCard
from server.engines import LOADERS
from server.engines.base import Engine, Loader
from server.workers.link import Link, LinkClosed, SocketLink
from server.workers.protocol import PROTOCOL, Cancel, Down, Hello, Load, Loaded, LoadProgress, NotLoaded, Outcomes, Run

logger = logging.getLogger(__name__)

PR_SET_PDEATHSIG = 1
OOM_SCORE = "500"


class Child:
    """Runs one engine between a link's two directions."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def main(self) -> None:
        """Load the model that the first message names and serve it until told to stop."""
        self._link.send(Hello(protocol=PROTOCOL, pid=os.getpid()))
        first = self._link.receive(wait=True)
        if not isinstance(first, Load):
            if first is not None:
                logger.error("the first message must be a load, it was a %s", type(first).__name__)
            return
        engine = self._load(first)
        if engine is None:
            return
        try:
            self._link.send(Loaded(facts=engine.facts))
            self._serve(engine)
        finally:
            engine.close()

    def _load(self, message: Load) -> Engine | None:
        def report(fraction: float) -> None:
            self._link.send(LoadProgress(fraction=fraction))

        try:
            return _loader(message.card).load(message.card, message.settings, report)
        except ServerError as error:
            self._link.send(NotLoaded(error=error.to_data()))
        except LinkClosed:
            raise
        except Exception as error:
            logger.exception("loading failed")
            reason = LoadFailed(
                f"model {message.card.id!r} could not be loaded ({type(error).__name__}); the log has the details",
                model=message.card.id,
            )
            self._link.send(NotLoaded(error=reason.to_data()))
        return None

    def _serve(self, engine: Engine) -> None:
        while True:
            refused: list[Outcome] = []
            message = self._link.receive(wait=engine.is_idle())
            while message is not None:
                if not self._take(engine, message, refused):
                    return
                message = self._link.receive(wait=False)
            items = refused + engine.step()
            if items:
                self._link.send(Outcomes(items=items))

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


def _loader(card: ModelCard) -> Loader:
    if card.runtime is None:
        raise LoadFailed(f"model {card.id!r} is not one that an engine can run", model=card.id)
    module, name = LOADERS[card.runtime].split(":")
    made: Loader = getattr(importlib.import_module(module), name)()
    return made


def _settle(parent: int) -> None:
    """Die with the parent, leave the terminal's signals to it, and be the first whom the kernel's OOM killer takes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            sys.exit(1)
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(OOM_SCORE)


def main() -> None:
    """Run as a worker over the inherited socket."""
    descriptor, parent = int(sys.argv[1]), int(sys.argv[2])
    _settle(parent)
    logging.basicConfig(level=logging.INFO, format="level=%(levelname)s logger=%(name)s %(message)s")
    link = SocketLink(socket.socket(fileno=descriptor))
    try:
        Child(link).main()
    except LinkClosed:
        logger.info("the parent has gone")
    finally:
        link.close()


if __name__ == "__main__":
    main()
