"""Runs the house under uvicorn: one socket, gentle ends, and news for systemd.

First SIGTERM or SIGINT: take nothing new, let running jobs end, stop. Second: stop at once. SIGHUP: read the model
folders again.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

import uvicorn

from server.app import House, warnings
from server.core.models import ModelCard, ModelKind
from server.http import wire
from server.notify import Notifier
from server.registry.starters import is_starter

logger = logging.getLogger(__name__)

LISTEN_FDS_START = 3
BACKLOG = 2048
KEEP_ALIVE_S = 75
LAST_WORDS_S = 5
MAX_HEADER_BYTES = 64 * 1024
MAX_CONNECTIONS = 1024
SHOWN = 8


class CannotListen(Exception):
    """The address cannot be had; the text says which and why."""


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket: the one that systemd hands over, or a new one.

    Raises:
        CannotListen: the port is taken, or the address is not one of this machine.
    """
    if os.environ.get("LISTEN_PID") == str(os.getpid()) and os.environ.get("LISTEN_FDS") == "1":
        return socket.socket(fileno=LISTEN_FDS_START)
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise CannotListen(f"cannot listen on {host}: {error.strerror}") from error
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        hint = "; is another server running? choose another with --port" if error.errno == 98 else ""
        raise CannotListen(f"cannot listen on {host}, port {port}: {error.strerror}{hint}") from error
    return listening


class HouseServer(uvicorn.Server):
    """uvicorn with our way to begin and to end."""

    def __init__(self, house: House, *, on_ready: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                house.asgi,
                http=wire.protocol(),
                proxy_headers=False,  # who may do what is decided by the real address
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=True,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=LAST_WORDS_S,
                limit_concurrency=MAX_CONNECTIONS,
                h11_max_incomplete_event_size=MAX_HEADER_BYTES,
                lifespan="on",
                ws="none",
            )
        )
        self._house = house
        self._on_ready = on_ready
        self._notifier = Notifier.from_environment()
        self._ending: asyncio.Task[None] | None = None
        self._event_loop: asyncio.AbstractEventLoop | None = None
        self._watchdog: asyncio.Task[None] | None = None
        self._rescanning: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then tell everybody who waits for it."""
        self._event_loop = asyncio.get_running_loop()
        await super().startup(sockets)
        if self.should_exit:
            return
        self._notifier.ready("listening")
        self._watchdog = asyncio.create_task(self._notifier.watchdog(), name="watchdog")
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close what is open."""
        if self._watchdog is not None:
            self._watchdog.cancel()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Have SIGHUP read the model folders again, beside what uvicorn listens to."""
        before = signal.signal(signal.SIGHUP, self._hang_up)
        try:
            with super().capture_signals():
                yield
        finally:
            signal.signal(signal.SIGHUP, before)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain at the first signal, end at once at the second."""
        if self._event_loop is not None:
            self._event_loop.call_soon_threadsafe(self._exit, sig)
        else:
            self.should_exit = True

    def _exit(self, sig: int) -> None:
        if self._ending is None:
            logger.info("received %s: taking nothing new, waiting for running jobs", signal.Signals(sig).name)
            self._ending = asyncio.create_task(self._end(), name="drain")
        else:
            logger.info("received %s again: ending now", signal.Signals(sig).name)
            # uvicorn reports what it cuts off, the lifespan among it, with tracebacks; that was asked for.
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
            self._ending.cancel()
            self.should_exit = self.force_exit = True

    async def _end(self) -> None:
        self._notifier.stopping("waiting for running jobs")
        await self._house.drain()
        self.should_exit = True

    def _hang_up(self, _: int, __: FrameType | None) -> None:
        if self._event_loop is not None:
            self._event_loop.call_soon_threadsafe(self._rescan)

    def _rescan(self) -> None:
        self._rescanning = asyncio.create_task(self._read_folders(), name="rescan")

    async def _read_folders(self) -> None:
        self._notifier.reloading("reading the model folders")
        await self._house.service.rescan()
        self._notifier.ready("listening")


def banner(house: House, address: str) -> str:
    """Return what a person who starts the server wants to read."""
    cards = [card for card in house.service.models(ModelKind.TEXT, ModelKind.CHECKPOINT) if card.broken is None]
    broken = [card for card in house.service.models() if card.broken is not None]
    lines = [
        f"Hearth listens on {address}",
        f"  OpenAI clients:        base URL {address}/v1   (any API key, unless [auth] sets one)",
        f"  AUTOMATIC1111 clients: URL {address}",
    ]
    for title, names in _names(cards):
        if names:
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            lines.append(f"  {title}: {', '.join(names[:SHOWN])}{more}")
    if broken:
        lines.append(f"  {len(broken)} files cannot be used; `hearth check` says why")
    if all(map(is_starter, cards)):
        lines.append("  no models of yours yet: `hearth pull REPO` fetches one, or put GGUF files into models/text and")
        lines.append("  checkpoints into models/Stable-diffusion; they are seen without a restart")
    lines += [line for card in cards if is_starter(card) for line in _first_try(card, address)]
    lines += [f"  WARNING: {warning}" for warning in warnings(house.config)]
    return "\n".join(lines)


def _first_try(card: ModelCard, address: str) -> Iterator[str]:
    """Yield how to try a starter model from a shell."""
    yield f"  {card.id} is a tiny demonstration that ships with Hearth; try it:"
    if card.kind is ModelKind.TEXT:
        path = "/v1/chat/completions"
        body = f'{{"model": "{card.id}", "messages": [{{"role": "user", "content": "How do I pull a model?"}}]}}'
    else:
        path = "/sdapi/v1/txt2img"
        body = (
            f'{{"prompt": "a red circle on a white background", "steps": 12, "width": 128, "height": 128, '
            f'"override_settings": {{"sd_model_checkpoint": "{card.id}"}}}}'
        )
    yield f"    curl {address}{path} -H 'Content-Type: application/json' -d '{body}'"


def _names(cards: Sequence[ModelCard]) -> Iterator[tuple[str, list[str]]]:
    text = [card for card in cards if card.kind is ModelKind.TEXT]
    yield "chat models", [card.id for card in text if not (card.text and card.text.pooling)]
    yield "embedding models", [card.id for card in text if card.text and card.text.pooling]
    yield "checkpoints", [card.id for card in cards if card.kind is ModelKind.CHECKPOINT]


def serve(house: House, *, say: Callable[[str], None]) -> int:
    """Serve until a signal ends it; return the exit status.

    Raises:
        CannotListen: the address cannot be had.
    """
    config = house.config.server
    for warning in warnings(house.config):
        logger.warning("%s", warning)
    listening = listen(config.host, config.port)
    host, port = listening.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    server = HouseServer(house, on_ready=lambda: say(banner(house, f"http://{shown}:{port}")))
    with listening:
        server.run(sockets=[listening])
    return 0 if server.started else 1
