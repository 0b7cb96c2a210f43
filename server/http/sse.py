"""Server-sent events: the one place that sets up sse-starlette.

Frames are bytes that a door encoded once; they go out unchanged. Two habits of the library are left out here, because
they reach across event loops and servers of one process: it ends every stream half a second after a SIGTERM (found by
looking at the process's signal handler), where running jobs must be finished first, and it says
`Connection: keep-alive`, which contradicts the server's own `close` while it drains.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import anyio
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.types import Message, Receive, Scope, Send

logger = logging.getLogger(__name__)

SLOW_READER_S = 60.0
_KEEP_ALIVE = ServerSentEvent(comment="keep-alive", sep="\n")

OnClose = Callable[[], Awaitable[None]]


class SlowReader(Exception):
    """The client took nothing for so long that its stream is given up."""


def frame(body: bytes, *, event: str | None = None) -> bytes:
    r"""Return one event: `data: <body>` and a blank line, after `event: <name>` when a name is given.

    `body` must be a single line, as JSON encoded by msgspec is. Frames may be joined and sent as one chunk.
    """
    if event is None:
        return b"data: " + body + b"\n\n"
    return b"event: " + event.encode() + b"\ndata: " + body + b"\n\n"


def event_stream(
    frames: AsyncIterator[bytes],
    *,
    headers: Mapping[str, str] | None = None,
    ping_s: float = 15.0,
    send_timeout_s: float = SLOW_READER_S,
    on_close: OnClose | None = None,
) -> "EventStream":
    """Return the answer that sends `frames`; a handler annotated `-> ASGIApp` may return it.

    A comment line goes out every `ping_s` seconds (0: never). When the client leaves, or takes nothing for
    `send_timeout_s`, the iterator is closed. An async generator that was never started runs none of its code when it
    is closed: what must be given back in any case (a job's stream) goes into `on_close`, which is always awaited last.
    """
    return EventStream(frames, headers=headers, ping_s=ping_s, send_timeout_s=send_timeout_s, on_close=on_close)


class EventStream(EventSourceResponse):
    """sse-starlette's response with the settings of this house. See `event_stream`."""

    def __init__(
        self,
        frames: AsyncIterator[bytes],
        *,
        headers: Mapping[str, str] | None,
        ping_s: float,
        send_timeout_s: float,
        on_close: OnClose | None,
    ) -> None:
        super().__init__(
            frames,
            headers={"Cache-Control": "no-cache", **(headers or {})},
            ping=ping_s,
            ping_message_factory=lambda: _KEEP_ALIVE,
            sep="\n",
        )
        del self.headers["connection"]
        self._frames = frames
        self._send_timeout_s = send_timeout_s
        self._on_close = on_close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream; returns when it has ended, whoever ended it."""

        async def send_in_time(message: Message) -> None:
            # The library's own limit leaves out the first and the last message of a stream.
            try:
                async with asyncio.timeout(self._send_timeout_s):
                    await send(message)
            except TimeoutError:
                raise SlowReader from None

        try:
            await super().__call__(scope, receive, send_in_time)
        except SlowReader:
            # Returning without the last message makes the server close the connection.
            logger.warning("stream given up: the client took nothing for %.0f s", self._send_timeout_s)
        finally:
            await self._close()

    async def _close(self) -> None:
        close = getattr(self._frames, "aclose", None)
        try:
            if close is not None:
                await close()
        finally:
            if self._on_close is not None:
                await self._on_close()

    async def _send_with_timeout(self, send: Send, message: Message) -> None:
        # The library would set a second clock for each message; see `__call__`.
        await send(message)

    async def _listen_for_exit_signal_with_grace(self) -> None:
        # Draining is the app's business: it refuses new work, lets streams end, and cancels late ones itself.
        await anyio.sleep_forever()
