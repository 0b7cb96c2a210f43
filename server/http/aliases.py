"""Further names of paths: plain ASGI around the whole app, so that every rule sees the path that is meant."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from litestar.types import ASGIApp, Receive, Send

NONE: Mapping[str, str] = MappingProxyType({})
REST = "name"


class Aliases:
    """Calls `app` with the path that `names` gives for a request's exact path; other requests pass as they are.

    A path that begins with an entry of `beginnings` means that path, with what follows as the query's `name`.
    """

    def __init__(self, app: ASGIApp, names: Mapping[str, str], beginnings: Mapping[str, str] = NONE) -> None:
        self._app = app
        self._names = dict(names)
        self._beginnings = dict(beginnings)

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer one request, or pass on what is not HTTP."""
        if scope["type"] == "http":
            scope = self._meant(scope)
        await self._app(scope, receive, send)

    def _meant(self, scope: Any) -> Any:
        path = scope["path"]
        meant = self._names.get(path)
        if meant is not None:
            return {**scope, "path": meant, "raw_path": meant.encode()}
        for beginning, target in self._beginnings.items():
            if path.startswith(beginning):
                query = f"{REST}={quote(path[len(beginning) :], safe='', errors='replace')}".encode()
                return {**scope, "path": target, "raw_path": target.encode(), "query_string": query}
        return scope
