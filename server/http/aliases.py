"""Further names of paths: plain ASGI around the whole app, so that every rule sees the path that is meant."""

from collections.abc import Mapping
from typing import Any

from litestar.types import ASGIApp, Receive, Send


class Aliases:
    """Calls `app` with the path that `names` gives for a request's exact path; other requests pass as they are."""

    def __init__(self, app: ASGIApp, names: Mapping[str, str]) -> None:
        self._app = app
        self._names = dict(names)

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer one request, or pass on what is not HTTP."""
        meant = self._names.get(scope["path"]) if scope["type"] == "http" else None
        if meant is not None:
            scope = {**scope, "path": meant, "raw_path": meant.encode()}
        await self._app(scope, receive, send)
