"""`GET /health` and `/v1/health`: is the server there, would it take a request. Open to all, says nothing of models."""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from litestar import Response, Router, route

from server.http.house import answer
from server.service.service import Service

READY, DRAINING = 200, 503


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """`live`: the process answers. `ready`: a request for work would be accepted. `warnings` are for who runs it."""

    status: Literal["ok", "draining"]
    live: bool
    ready: bool
    warnings: tuple[str, ...]


def router(service: Service, warnings: Sequence[str] = ()) -> Router:
    """Return the routes; the status is 200 when ready and 503 while the server drains."""
    told = tuple(warnings)

    @route(["/health", "/v1/health"], http_method=["GET", "HEAD"], opt={"public": True}, sync_to_thread=False)
    def health() -> Response[Health]:
        """Tell whether the server is live and would accept a request."""
        ready = service.accepting
        state = Health(status="ok" if ready else "draining", live=True, ready=ready, warnings=told)
        headers: dict[str, Any] = {"Cache-Control": "no-store"} | ({} if ready else {"Retry-After": "10"})
        return Response(state, status_code=READY if ready else DRAINING, headers=headers)

    return Router("/", route_handlers=[health], exception_handlers={Exception: answer}, tags=["house"])
