"""`server-stop`, `server-kill` and `server-restart`: there only where the configuration allows them, as in A1111.

| route | what happens |
|---|---|
| `server-stop` | 200 `Stopping.`; nothing new is taken, running jobs end, then the server does |
| `server-kill` | the server ends at once; whoever waits for an answer gets none |
| `server-restart` | 501: nothing here starts the server again, a service manager may |
"""

import signal

from litestar import Response, post
from litestar.handlers import HTTPRouteHandler

from compat.a1111.settings import A1111Settings

ADMIN = {"admin": True}
"""On a server that others reach without a key, only this machine may end it."""


def handlers(settings: A1111Settings) -> list[HTTPRouteHandler]:
    """Return the handlers, none where the configuration does not allow them."""

    @post("/server-stop", status_code=200, opt=ADMIN, summary="End the server once running jobs have ended")
    async def server_stop() -> Response[str]:
        signal.raise_signal(signal.SIGTERM)
        return Response("Stopping.", media_type="text/plain")

    @post("/server-kill", status_code=200, opt=ADMIN, summary="End the server at once")
    async def server_kill() -> Response[str]:
        for _ in range(2):  # the server waits for running jobs at the first signal, for nothing at the second
            signal.raise_signal(signal.SIGTERM)
        return Response("", media_type="text/plain")

    @post("/server-restart", status_code=501, opt=ADMIN, summary="Not offered: a service manager restarts")
    async def server_restart() -> Response[bytes]:
        return Response(b"", status_code=501)

    return [server_stop, server_kill, server_restart] if settings.server_stop else []
