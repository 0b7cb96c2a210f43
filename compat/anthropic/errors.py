"""What went wrong, in Anthropic's words: one table from core errors to status and type.

Its clients repeat 408, 409, 429 and every status from 500 on, twice by default. So a mistake of the caller is never a
5xx, a passing trouble names a delay, and a lasting one says `x-should-retry: false`. Source: Anthropic's API reference
(Errors); 529 is its "overloaded".
"""

import logging
from http import HTTPStatus

import msgspec
from litestar.exceptions import HTTPException

from compat.anthropic import wire
from server.core import errors as core
from server.http.disconnect import LEFT, ClientLeft
from server.http.refusals import UNEXPECTED, delay, known, sentence
from server.http.reply import Reply

logger = logging.getLogger(__name__)

_INVALID = "invalid_request_error"
_OVERLOADED = "overloaded_error"
_API = "api_error"


class Row(msgspec.Struct, frozen=True):
    """How a class of errors is told. `retry` is the delay in seconds when the error names none, 0 = do not say."""

    status: int
    type: str
    retry: int = 0
    lasting: bool = False


TABLE: dict[type[core.ServerError], Row] = {
    core.UnknownModel: Row(404, "not_found_error"),
    core.BadRequest: Row(400, _INVALID),
    core.NotNow: Row(529, _OVERLOADED, retry=5),
    core.DoesNotFit: Row(507, _API, lasting=True),
    core.LoadFailed: Row(503, _API, retry=10),
    core.CannotServe: Row(503, _API, lasting=True),
    core.Cancelled: Row(499, _INVALID),
    core.WorkerDied: Row(503, _API, retry=1),
    core.OutOfMemory: Row(503, _OVERLOADED, retry=5),
    core.ServerError: Row(500, _API),
}
"""The nearest base class of an error in this table decides."""

_HTTP_TYPES: dict[int, str] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: _OVERLOADED,
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
    return _answer(row, _message(error), headers)


def _message(error: core.ServerError) -> str:
    if isinstance(error, core.ContextTooLong):
        # Agents read both numbers out of exactly these words to shorten their history.
        return f"prompt is too long: {error.fact('got')} tokens > {error.fact('limit')} maximum"
    return sentence(error)


def _http(error: HTTPException) -> Reply:
    status = error.status_code
    kind = _HTTP_TYPES.get(status, _INVALID if status < HTTPStatus.INTERNAL_SERVER_ERROR else _API)
    if kind == _API:
        logger.error("the framework failed", exc_info=error)
        return _answer(Row(status, kind), UNEXPECTED)
    text = error.detail or HTTPStatus(status).phrase
    return _answer(Row(status, kind), text, dict(error.headers or {}))


def _answer(row: Row, message: str, headers: dict[str, str] | None = None) -> Reply:
    body = wire.ErrorBody(wire.ErrorDetail(row.type, message))
    return Reply(status=row.status, body=msgspec.json.encode(body), headers=headers or {})
