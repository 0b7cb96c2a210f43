"""What went wrong, in OpenAI's words: one table from core errors to status, type and code.

Clients repeat 408, 409, 429 and every status from 500 on, twice by default. So a mistake of the caller is never a 5xx,
a passing trouble names a delay, and a lasting one says `x-should-retry: false`.
"""

import logging
from http import HTTPStatus
from typing import Any

import msgspec
from litestar.exceptions import HTTPException

from compat.openai import wire
from server.core import errors as core
from server.http.disconnect import LEFT, ClientLeft
from server.http.refusals import UNEXPECTED, delay, known, sentence
from server.http.reply import Reply

logger = logging.getLogger(__name__)

_INVALID = "invalid_request_error"
_SERVER = "server_error"


class PreviousResponseNotFound(core.BadRequest):
    """The response that is to be continued is not stored (any more)."""

    code = "previous_response_not_found"


class ResponseNotFound(core.BadRequest):
    """There is no stored response of that id."""

    code = "response_not_found"


class Row(msgspec.Struct, frozen=True):
    """How a class of errors is told. `retry` is the delay in seconds when the error names none, 0 = do not say."""

    status: int
    type: str
    code: str
    param: str | None = None
    retry: int = 0
    lasting: bool = False


TABLE: dict[type[core.ServerError], Row] = {
    core.UnknownModel: Row(404, _INVALID, "model_not_found", "model"),
    core.InvalidValue: Row(400, _INVALID, "invalid_value"),
    core.Unsupported: Row(400, _INVALID, "unsupported_parameter"),
    core.ContextTooLong: Row(400, "exceed_context_size_error", "context_length_exceeded", "messages"),
    core.BadImage: Row(400, _INVALID, "invalid_image", "messages"),
    PreviousResponseNotFound: Row(400, _INVALID, "previous_response_not_found", "previous_response_id"),
    ResponseNotFound: Row(404, _INVALID, "response_not_found", "response_id"),
    core.BadRequest: Row(400, _INVALID, "bad_request"),
    core.QueueFull: Row(429, "rate_limit_error", "queue_full", retry=5),
    core.ModelBusy: Row(503, _SERVER, "model_busy", retry=5),
    core.ShuttingDown: Row(503, _SERVER, "shutting_down", retry=10),
    core.NotNow: Row(503, _SERVER, "not_now", retry=5),
    core.DoesNotFit: Row(507, _SERVER, "insufficient_memory", "model", lasting=True),
    core.LoadFailed: Row(503, _SERVER, "model_load_failed", "model", retry=10),
    core.CannotServe: Row(503, _SERVER, "cannot_serve", lasting=True),
    core.Cancelled: Row(499, _INVALID, "cancelled"),
    core.WorkerDied: Row(503, _SERVER, "worker_died", retry=1),
    core.OutOfMemory: Row(503, _SERVER, "insufficient_memory", retry=5),
    core.ServerError: Row(500, _SERVER, "internal_error"),
}
"""The nearest base class of an error in this table decides."""

_HTTP_ROWS: dict[int, Row] = {
    400: Row(400, _INVALID, "invalid_request"),
    401: Row(401, _INVALID, "invalid_api_key"),
    403: Row(403, _INVALID, "forbidden"),
    404: Row(404, _INVALID, "unknown_url"),
    405: Row(405, _INVALID, "method_not_allowed"),
    413: Row(413, _INVALID, "request_too_large"),
    415: Row(415, _INVALID, "unsupported_media_type"),
    429: Row(429, "rate_limit_error", "rate_limit_exceeded", retry=5),
    503: Row(503, _SERVER, "not_now", retry=5),
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
    param = error.fact("param")
    extra: dict[str, Any] = {}
    if isinstance(error, core.ContextTooLong):
        extra = {"n_prompt_tokens": error.fact("got"), "n_ctx": error.fact("limit")}
    return _answer(
        row,
        sentence(error),
        param=param if isinstance(param, str) else row.param,
        retry_after=delay(error, row.retry),
        extra=extra,
    )


def _http(error: HTTPException) -> Reply:
    if error.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR and error.status_code not in _HTTP_ROWS:
        logger.error("the framework failed", exc_info=error)
        return _answer(Row(error.status_code, _SERVER, "internal_error"), UNEXPECTED)
    row = _HTTP_ROWS.get(error.status_code, Row(error.status_code, _INVALID, "invalid_request"))
    problem = error.extra[0] if isinstance(error.extra, list) and error.extra else None
    if isinstance(problem, dict):
        key, message = str(problem.get("key") or "") or None, str(problem.get("message"))
        return _answer(row, f"Invalid value for '{key}': {message}", param=key, headers=error.headers)
    return _answer(row, error.detail or HTTPStatus(error.status_code).phrase, headers=error.headers)


def _answer(
    row: Row,
    message: str,
    *,
    param: str | None = None,
    retry_after: str = "",
    extra: dict[str, Any] | None = None,
    headers: dict[str, str] | None = None,
) -> Reply:
    detail = wire.ErrorDetail(message=message, type=row.type, param=param, code=row.code, **(extra or {}))
    sent = dict(headers or {})
    if row.lasting:
        sent["x-should-retry"] = "false"
    elif row.retry and not any(name.lower() == "retry-after" for name in sent):
        sent["retry-after"] = retry_after or delay(None, row.retry)
    return Reply(status=row.status, body=msgspec.json.encode(wire.ErrorBody(detail)), headers=sent)
