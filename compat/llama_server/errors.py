"""What went wrong, in llama-server's words: one table from core errors to status and type.

Its clients repeat every 5xx. So a mistake of the caller is never one, a passing trouble names a delay, and a lasting
one says `x-should-retry: false`.
"""

import logging
from http import HTTPStatus

import msgspec
from litestar.exceptions import HTTPException
from msgspec import UNSET

from compat.llama_server import wire
from server.core import errors as core
from server.http.disconnect import LEFT, ClientLeft
from server.http.refusals import UNEXPECTED, delay, known, sentence
from server.http.reply import Reply

logger = logging.getLogger(__name__)

_INVALID = "invalid_request_error"
_SERVER = "server_error"
_UNAVAILABLE = "unavailable_error"


class Row(msgspec.Struct, frozen=True):
    """How a class of errors is told. `retry` is the delay in seconds when the error names none, 0 = do not say."""

    status: int
    type: str
    retry: int = 0
    lasting: bool = False


TABLE: dict[type[core.ServerError], Row] = {
    core.UnknownModel: Row(404, "not_found_error"),
    core.ContextTooLong: Row(400, "exceed_context_size_error"),
    core.BadRequest: Row(400, _INVALID),
    core.QueueFull: Row(429, _UNAVAILABLE, retry=5),
    core.NotNow: Row(503, _UNAVAILABLE, retry=5),
    core.DoesNotFit: Row(507, _SERVER, lasting=True),
    core.LoadFailed: Row(503, _UNAVAILABLE, retry=10),
    core.CannotServe: Row(503, _SERVER, lasting=True),
    core.Cancelled: Row(499, _INVALID),
    core.WorkerDied: Row(503, _UNAVAILABLE, retry=1),
    core.OutOfMemory: Row(503, _UNAVAILABLE, retry=5),
    core.ServerError: Row(500, _SERVER),
}
"""The nearest base class of an error in this table decides."""

_HTTP_TYPES: dict[int, str] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: _UNAVAILABLE,
    503: _UNAVAILABLE,
}


def reply(error: Exception) -> Reply:
    """Return the answer to anything that a handler, the framework or the gate raised."""
    match known(error):
        case core.ServerError() as told:
            return _core(told)
        case HTTPException() as told:
            return _http(told)
        case ClientLeft():
            return LEFT


def _core(error: core.ServerError) -> Reply:
    row = next(TABLE[kind] for kind in type(error).__mro__ if kind in TABLE)
    headers: dict[str, str] = {}
    if row.lasting:
        headers["x-should-retry"] = "false"
    elif row.retry:
        headers["retry-after"] = delay(error, row.retry)
    got, limit, param = (error.fact(name) for name in ("got", "limit", "param"))
    too_long = isinstance(error, core.ContextTooLong)
    detail = wire.ErrorDetail(
        code=row.status,
        type=row.type,
        message=sentence(error),
        param=param if isinstance(param, str) else UNSET,
        n_prompt_tokens=got if too_long and isinstance(got, int) else UNSET,
        n_ctx=limit if too_long and isinstance(limit, int) else UNSET,
    )
    return _answer(detail, headers)


def _http(error: HTTPException) -> Reply:
    status = error.status_code
    kind = _HTTP_TYPES.get(status, _INVALID if status < HTTPStatus.INTERNAL_SERVER_ERROR else _SERVER)
    if kind == _SERVER:
        logger.error("the framework failed", exc_info=error)
        return _answer(wire.ErrorDetail(code=status, type=kind, message=UNEXPECTED))
    text = error.detail or HTTPStatus(status).phrase
    return _answer(wire.ErrorDetail(code=status, type=kind, message=text), dict(error.headers or {}))


def _answer(detail: wire.ErrorDetail, headers: dict[str, str] | None = None) -> Reply:
    return Reply(status=detail.code, body=msgspec.json.encode(wire.ErrorBody(detail)), headers=headers or {})
