"""ASGI apps called by hand: the scope as uvicorn builds it, and what was sent."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any


class Exchange:
    """One request to an app: `receive` and `send` to hand it, and what it answered.

    The client stays until `leave()`; after the body `receive` waits for that.
    """

    def __init__(self, body: Sequence[bytes] = (b"",)) -> None:
        self._chunks = list(body)
        self._left = asyncio.Event()
        self.sent: list[dict[str, Any]] = []
        self.something_sent = asyncio.Event()

    def leave(self) -> None:
        self._left.set()

    async def receive(self) -> dict[str, Any]:
        if self._chunks:
            return {"type": "http.request", "body": self._chunks.pop(0), "more_body": bool(self._chunks)}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(dict(message))
        self.something_sent.set()

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode("latin-1"): value.decode("latin-1") for name, value in self.sent[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.sent[1:])

    @property
    def complete(self) -> bool:
        last = self.sent[-1] if self.sent else {}
        return last.get("type") == "http.response.body" and not last.get("more_body", False)


def http_scope(
    path: str = "/",
    method: str = "GET",
    headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
    *,
    client: tuple[str, int] | None = ("127.0.0.1", 50000),
    server: tuple[str, int] = ("127.0.0.1", 7860),
) -> dict[str, Any]:
    """Return a scope; without a Host among the headers it is the server's own address."""
    pairs = list(headers.items()) if isinstance(headers, Mapping) else list(headers)
    if not any(name.lower() == "host" for name, _ in pairs):
        pairs.insert(0, ("host", f"{server[0]}:{server[1]}"))
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in pairs],
        "client": client,
        "server": server,
        "state": {},
    }


async def ask(app: Any, scope: dict[str, Any], body: Sequence[bytes] = (b"",)) -> Exchange:
    """Call the app and return the finished exchange."""
    exchange = Exchange(body)
    await app(scope, exchange.receive, exchange.send)
    return exchange
