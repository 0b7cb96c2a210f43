"""The house's own words for errors, on paths that belong to no dialect: `/`, `/health`, `/hearth`.

{"error": {"code": "unknown_model", "message": "no model named 'x' is known"}}
"""

import logging
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException

from server.core import errors
from server.http.disconnect import LEFT, ClientLeft
from server.http.reply import Reply, to_response

logger = logging.getLogger(__name__)

_STATUS: tuple[tuple[type[errors.ServerError], int], ...] = (
    (errors.UnknownModel, 404),
    (errors.BadRequest, 400),
    (errors.QueueFull, 429),
    (errors.NotNow, 503),
    (errors.DoesNotFit, 507),
    (errors.CannotServe, 503),
    (errors.Cancelled, 409),
    (errors.WorkerDied, 503),
    (errors.Broken, 500),
)
_MALFORMED = (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError)
_SORRY = "something went wrong in the server; its log has the details"
_WIDE_OPEN = 500


def reply(error: Exception) -> Reply:
    """Return the answer to any exception; what is unexpected is logged and not described."""
    match error:
        case ClientLeft():
            return LEFT
        case errors.ServerError():
            return _core(error)
        case HTTPException():
            return _http(error)
        case _ if isinstance(error, _MALFORMED):
            return _body(400, "malformed_body", "the body is not valid JSON of the expected form")
    logger.error("an unexpected error", exc_info=error)
    return _body(_WIDE_OPEN, errors.Broken.code, _SORRY)


def answer(_: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Be the exception handler of the house's own routers."""
    return to_response(reply(error))


def _core(error: errors.ServerError) -> Reply:
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), _WIDE_OPEN)
    if status == _WIDE_OPEN:
        logger.error("an error of the house: %s", error, exc_info=error)
        return _body(status, error.code, _SORRY)
    wait = error.fact("retry_after")
    headers = {"retry-after": str(max(1, min(60, round(wait))))} if isinstance(wait, int | float) else {}
    return _body(status, error.code, error.message, headers)


def _http(error: HTTPException) -> Reply:
    if error.status_code >= _WIDE_OPEN and error.status_code != 503:
        logger.error("an unexpected error", exc_info=error)
        return _body(error.status_code, errors.Broken.code, _SORRY)
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    if error.status_code == 401:
        headers.setdefault("www-authenticate", "Bearer")
    return _body(error.status_code, _code(error.status_code), error.detail, headers)


def _code(status: int) -> str:
    return {
        401: "no_valid_key",
        403: "forbidden",
        404: "not_found",
        405: "method_not_allowed",
        413: "body_too_large",
        503: errors.NotNow.code,
    }.get(status, errors.BadRequest.code)


def _body(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Reply:
    content = msgspec.json.encode({"error": {"code": code, "message": message}})
    return Reply(status=status, body=content, headers=headers or {})
