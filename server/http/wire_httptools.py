"""The fast parser, watched. Apart from `wire.py` because httptools is an optional extra."""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from server.http.wire import HEAD_S, HeadWatch


class WatchedHttpTools(HttpToolsProtocol):
    """uvicorn's httptools protocol with a limit on the time and size of a request's head, which httptools has not."""

    head_s = HEAD_S
    _in_head = False
    _watch: HeadWatch

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock."""
        super().connection_made(transport)
        self._watch = HeadWatch(self.loop, transport, limit_s=self.head_s)

    def on_message_begin(self) -> None:
        """Note that a head has begun."""
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Note that the head is complete."""
        self._in_head = False
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """Let the parser have the data, then look how far it is."""
        super().data_received(data)
        self._watch.heard(len(data), incomplete=self._in_head)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._watch.stop()
        super().connection_lost(exc)
