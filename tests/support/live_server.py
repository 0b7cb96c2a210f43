"""A real uvicorn server in a thread, for what only a wire shows: chunked bodies, hang-ups, both length headers."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


@contextmanager
def live_server(app: Any, **settings: Any) -> Iterator[str]:
    """Serve an ASGI app on a free loopback port and yield its base URL; on leaving, the server has stopped.

    `settings` go to `uvicorn.Config` (`http="h11"` chooses the parser).
    """
    # With its protocol named: else asyncio leaves Nagle's delay of 40 ms on every answer.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    defaults: dict[str, Any] = {
        "log_config": None,
        "access_log": False,
        "lifespan": "off",
        "timeout_graceful_shutdown": 5,
        "proxy_headers": False,
    }
    server = _Server(uvicorn.Config(app, **(defaults | settings)))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="live server")
    thread.start()
    try:
        if not server.ready.wait(10):
            raise TimeoutError("the server did not start")
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(15)
        listener.close()


def address(base_url: str) -> tuple[str, int]:
    """Return host and port of a base URL for a raw socket."""
    host, _, port = base_url.removeprefix("http://").partition(":")
    return host, int(port)


def exchange(base_url: str, request: bytes, *, timeout: float = 10.0) -> bytes:
    """Send raw bytes and return all that comes until the server closes the connection."""
    with socket.create_connection(address(base_url), timeout=timeout) as connection:
        connection.sendall(request)
        answer = bytearray()
        while data := connection.recv(65536):
            answer += data
        return bytes(answer)
