"""uvicorn's HTTP protocols with a limit on the time, and where the parser has none on the size, of a request's head.

uvicorn has time-outs for idle connections only: a client that sends its head byte by byte would keep one for ever.
`protocol()` returns what `uvicorn.Config(http=...)` takes.
"""

import asyncio
import importlib.util

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S = 30.0
MAX_HEAD_BYTES = 128 * 1024
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class HeadWatch:
    """Closes a connection whose request head takes too long or grows too large.

    Told by the protocol that owns it after each piece of data whether a head is still incomplete.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, *, limit_s: float) -> None:
        self._loop = loop
        self._transport = transport
        self._limit_s = limit_s
        self._size = 0
        self._timer: asyncio.TimerHandle | None = loop.call_later(limit_s, self._close, _TOO_SLOW)

    def heard(self, count: int, *, incomplete: bool) -> None:
        """Note that `count` bytes came. A head's clock runs from its first byte, the first one's from connecting."""
        if not incomplete:
            self.stop()
            return
        self._size += count
        if self._size > MAX_HEAD_BYTES:
            self._close(_TOO_LARGE)
        elif self._timer is None:
            self._timer = self._loop.call_later(self._limit_s, self._close, _TOO_SLOW)

    def stop(self) -> None:
        """Stop the clock until the next head begins."""
        self._size = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _close(self, words: bytes) -> None:
        self.stop()
        if not self._transport.is_closing():
            self._transport.write(words)
            self._transport.close()


class WatchedH11(H11Protocol):
    """The pure Python parser, which limits the size of a head itself."""

    head_s = HEAD_S
    _watch: HeadWatch

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock."""
        super().connection_made(transport)
        self._watch = HeadWatch(self.loop, transport, limit_s=self.head_s)

    def data_received(self, data: bytes) -> None:
        """Let the parser have the data, then look how far it is."""
        super().data_received(data)
        unparsed = self.conn.their_state is h11.IDLE and bool(self.conn.trailing_data[0])
        self._watch.heard(len(data), incomplete=unparsed)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._watch.stop()
        super().connection_lost(exc)


def protocol() -> type[asyncio.Protocol]:
    """Return the watched protocol over httptools where that is installed, else over h11."""
    if importlib.util.find_spec("httptools") is None:
        return WatchedH11
    from server.http.wire_httptools import WatchedHttpTools

    return WatchedHttpTools
