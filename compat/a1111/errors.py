"""What went wrong, in A1111's shapes: one table from core errors to status and body.

| what | status | body |
|---|---|---|
| a field of the wrong type or out of bounds, an unreadable body | 422 | `{"detail": [{"loc", "msg", "type"}]}` |
| everything else | see the table | `{"error", "detail", "body", "errors"}` |
| no such path, wrong method | 404, 405 | `{"detail": "Not Found"}` |

Differences that are meant: what the caller did wrong is 422 or 404 here where A1111 answers 500 (a null prompt, no
steps, an unknown checkpoint in options, an unreadable picture ...), with the same words; a full queue is 429, a server
that shuts down, cannot load or lost a worker 503, a model that never fits 507, a route not offered yet 501. Texts
never hold addresses, folders or tracebacks.
"""

import logging
import re
from http import HTTPStatus
from math import ceil
from typing import Any

import msgspec
from litestar.exceptions import HTTPException, SerializationException, ValidationException

from compat.a1111.lenient import BODY, Problem, Unreadable
from compat.a1111.refusals import NotHere, Refused
from compat.a1111.wire import Refusal
from server.core import errors as core
from server.http.disconnect import LEFT, ClientLeft
from server.http.reply import Reply

logger = logging.getLogger(__name__)

UNEXPECTED = "the server had an internal error; its log has the details"
LONGEST_RETRY_S = 60

TABLE: dict[type[core.ServerError], tuple[int, int]] = {
    core.UnknownModel: (404, 0),
    core.BadRequest: (422, 0),
    core.QueueFull: (429, 5),
    core.ModelBusy: (503, 5),
    core.ShuttingDown: (503, 10),
    core.NotNow: (503, 5),
    core.DoesNotFit: (507, 0),
    core.LoadFailed: (503, 10),
    core.CannotServe: (503, 0),
    core.WorkerDied: (503, 1),
    core.OutOfMemory: (503, 5),
    core.Cancelled: (409, 0),
    core.ServerError: (500, 0),
    NotHere: (501, 0),
}
"""Status and retry delay in seconds (0 = none); the nearest base class decides."""

_NAMES: dict[type[core.ServerError], str] = {core.UnknownModel: "RuntimeError", NotHere: "NotImplementedError"}
_FOLDERS = re.compile(r"(?<![\w.:/])/(?:[^\s/'\"`]+/)+")
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{6,}")


def reply(error: Exception) -> Reply:
    """Return the answer to anything that a handler, the framework or the gate raised."""
    match error:
        case Unreadable():
            return _problems(error.problems)
        case Refused():
            return _refused(error)
        case core.InvalidValue() | core.BadImage() if isinstance(error.fact("param"), str):
            loc: list[str | int] = [BODY, str(error.fact("param"))]
            return _problems([Problem(loc=loc, msg=error.message, type="value_error")])
        case core.ServerError():
            return _core(error)
        case ClientLeft():
            return LEFT
        case HTTPException():
            return _http(error)
        case msgspec.DecodeError() | RecursionError() | UnicodeDecodeError() | SerializationException():
            return _problems([Problem(loc=[BODY], msg="the body cannot be read", type="value_error")])
        case _:
            logger.error("a request ended with an unexpected error", exc_info=error)
            return _told(500, Refusal(error="InternalServerError", errors=UNEXPECTED))


def _refused(error: Refused) -> Reply:
    status = error.fact("status")
    body = Refusal(error=str(error.fact("error")), detail=str(error.fact("detail")), errors=str(error.fact("errors")))
    return _told(status if isinstance(status, int) else 422, body)


def _core(error: core.ServerError) -> Reply:
    kinds = type(error).__mro__
    status, retry = next(TABLE[kind] for kind in kinds if kind in TABLE)
    message = error.message
    if isinstance(error, core.Broken | core.CannotServe):
        logger.warning("a request failed: %s", message)
        message = _ADDRESS.sub("0x...", _FOLDERS.sub("", message))
    name = next((_NAMES[kind] for kind in kinds if kind in _NAMES), type(error).__name__)
    delay = error.fact("retry_after")
    headers = {}
    if retry:
        seconds = delay if isinstance(delay, int | float) and not isinstance(delay, bool) else retry
        headers["retry-after"] = str(min(max(ceil(seconds), 1), LONGEST_RETRY_S))
    if name == "RuntimeError":
        return _told(status, Refusal(error=name, errors=message), headers)
    return _told(status, Refusal(error=name, detail=message, errors=message), headers)


def _http(error: HTTPException) -> Reply:
    status = error.status_code
    if status == HTTPStatus.SERVICE_UNAVAILABLE:  # the gate's: too much is under way
        return _told(status, Refusal(error="HTTPException", detail=error.detail), dict(error.headers or {}))
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        logger.error("the framework failed", exc_info=error)
        return _told(status, Refusal(error="InternalServerError", errors=UNEXPECTED))
    if isinstance(error, ValidationException):
        return _problems(_from_framework(error))
    text = error.detail or HTTPStatus(status).phrase
    headers = dict(error.headers or {})
    if status in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED):
        return Reply(status=status, body=msgspec.json.encode({"detail": HTTPStatus(status).phrase}), headers=headers)
    return _told(status, Refusal(error="HTTPException", detail=text), headers)


def _from_framework(error: ValidationException) -> list[Problem]:
    problems = []
    for one in error.extra if isinstance(error.extra, list) else []:
        told: dict[str, Any] = one if isinstance(one, dict) else {}
        source = "query" if told.get("source") == "query" else BODY
        key = str(told.get("key") or "")
        loc: list[str | int] = [source, key] if key and key != "data" else [source]
        problems.append(Problem(loc=loc, msg=str(told.get("message") or "value is not valid"), type="value_error"))
    return problems or [Problem(loc=[BODY], msg="field required", type="value_error.missing")]


def _problems(problems: list[Problem]) -> Reply:
    return Reply(status=422, body=msgspec.json.encode({"detail": problems}))


def _told(status: int, body: Refusal, headers: dict[str, str] | None = None) -> Reply:
    return Reply(status=status, body=msgspec.json.encode(body), headers=headers or {})
