"""One request on its way through the gate: its body is counted coming in, its answer signed going out."""

import asyncio
import time
from collections.abc import Awaitable
from typing import Any, cast

from litestar.exceptions import HTTPException
from litestar.types import Message, Receive, Send

from server.http.bodies import BodyLimits, TooSlow, drain, too_large

_ON_EVERY_ANSWER = ((b"x-content-type-options", b"nosniff"), (b"vary", b"Origin"))
_POLICY_NAME = b"content-security-policy"
_POLICY = (_POLICY_NAME, b"default-src 'none'; frame-ancestors 'none'")


class Passage:
    """Stands between the server's `receive` and `send` and the app's.

    Set before the app is called: `limit` (bytes of body that may come), `request_id`, `origin` (a page that may read
    the answer), `began` (of `time.perf_counter`, if the answer shall tell its time).
    """

    __slots__ = (
        "_bodies",
        "_body_read",
        "_cut",
        "_held",
        "_linger",
        "_plain",
        "_receive",
        "_send",
        "began",
        "limit",
        "origin",
        "request_id",
    )

    def __init__(self, receive: Receive, send: Send, bodies: BodyLimits) -> None:
        self._receive = receive
        self._send = send
        self._bodies = bodies
        self._held = 0
        self._body_read = False
        self._plain = False
        self._cut = False
        self._linger = False
        self.limit = 0
        self.request_id = b""
        self.origin: bytes | None = None
        self.began = 0.0

    def cut(self, *, linger: bool) -> None:
        """Have the connection closed after the answer; with `linger` only when the client had time to read it."""
        self._cut, self._linger = True, linger

    def close(self) -> None:
        """Give back the bytes that the body took."""
        self._bodies.give_back(self._held)
        self._held = 0

    def receive(self) -> Awaitable[Any]:
        """Stand in for the server's `receive`."""
        return self._receive() if self._body_read else self._receive_body()

    def send(self, message: Message) -> Awaitable[None]:
        """Stand in for the server's `send`; after the first message of an answer nothing is done but passing on."""
        if self._plain:
            return self._send(message)
        if message["type"] == "http.response.start":
            self._plain = not self._linger
            signed = {**message, "headers": self._signed(list(message.get("headers", ())))}
            return self._send(cast(Message, signed))
        if message["type"] == "http.response.body" and not message.get("more_body"):
            return self._send_last(message)
        return self._send(message)

    async def _receive_body(self) -> Any:
        try:
            async with asyncio.timeout(self._bodies.idle_s):
                message = await self._receive()
        except TimeoutError:
            self.cut(linger=False)
            raise TooSlow(detail=f"no byte of the body came for {self._bodies.idle_s:.0f} s") from None
        if message["type"] != "http.request":
            return message
        self._body_read = not message.get("more_body")
        try:
            self._count(len(message.get("body", b"")))
        except HTTPException:
            self.cut(linger=not self._body_read)
            raise
        return message

    def _count(self, count: int) -> None:
        if self._held + count > self.limit:
            raise too_large(self.limit)
        self._bodies.take(count)
        self._held += count

    async def _send_last(self, message: Any) -> None:
        await self._send(cast(Message, {**message, "more_body": True}))
        await drain(self._receive)
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    def _signed(self, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        if not any(name == _POLICY_NAME for name, _ in headers):
            headers.append(_POLICY)
        headers.append((b"x-request-id", self.request_id))
        headers.extend(_ON_EVERY_ANSWER)
        if self.origin is not None:
            headers.append((b"access-control-allow-origin", self.origin))
            headers.append((b"access-control-expose-headers", b"*"))
        if self.began:
            headers.append((b"x-process-time", b"%.4f" % (time.perf_counter() - self.began)))
        if self._cut:
            headers.append((b"connection", b"close"))
        return headers
