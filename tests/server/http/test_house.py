import logging

import msgspec
import pytest
from litestar.exceptions import (
    HTTPException,
    InternalServerException,
    MethodNotAllowedException,
    NotAuthorizedException,
    NotFoundException,
    ServiceUnavailableException,
)

from server.core import errors
from server.http.disconnect import ClientLeft
from server.http.house import reply


def undecodable() -> Exception:
    try:
        b"\xff".decode()
    except UnicodeDecodeError as error:
        return error
    raise AssertionError


CASES: list[tuple[Exception, int, str]] = [
    (errors.UnknownModel.named("x", []), 404, "unknown_model"),
    (errors.InvalidValue.of("model", "bad"), 400, "invalid_value"),
    (errors.ContextTooLong.of(1, 2), 400, "context_too_long"),
    (errors.QueueFull("full", retry_after=5), 429, "queue_full"),
    (errors.ModelBusy("busy"), 503, "model_busy"),
    (errors.ShuttingDown("bye", retry_after=10), 503, "shutting_down"),
    (errors.DoesNotFit("too big"), 507, "does_not_fit"),
    (errors.LoadFailed("broken file", retry_after=3), 503, "load_failed"),
    (errors.WorkerDied("gone"), 503, "worker_died"),
    (NotFoundException(), 404, "not_found"),
    (MethodNotAllowedException(), 405, "method_not_allowed"),
    (NotAuthorizedException(detail="Missing API key"), 401, "no_valid_key"),
    (HTTPException(status_code=413, detail="large"), 413, "body_too_large"),
    (HTTPException(status_code=415, detail="packed"), 415, "bad_request"),
    (ServiceUnavailableException(detail="later"), 503, "not_now"),
    (msgspec.DecodeError("x"), 400, "malformed_body"),
    (msgspec.ValidationError("x"), 400, "malformed_body"),
    (RecursionError(), 400, "malformed_body"),
    (undecodable(), 400, "malformed_body"),
]


@pytest.mark.parametrize(("error", "status", "code"), CASES, ids=lambda value: type(value).__name__)
def test_each_error_has_its_status_and_code(error: Exception, status: int, code: str) -> None:
    made = reply(error)
    body = msgspec.json.decode(made.body)
    assert (made.status, body["error"]["code"]) == (status, code)
    assert body["error"]["message"]


def all_core_errors(root: type[errors.ServerError] = errors.ServerError) -> list[type[errors.ServerError]]:
    return [root, *(found for child in root.__subclasses__() for found in all_core_errors(child))]


@pytest.mark.parametrize("kind", all_core_errors(), ids=lambda kind: kind.__name__)
def test_no_core_error_is_forgotten(kind: type[errors.ServerError]) -> None:
    fault_is_ours = issubclass(kind, errors.Broken) and kind is not errors.WorkerDied
    unexpected = kind is errors.ServerError or fault_is_ours
    assert (reply(kind("what happened")).status == 500) is unexpected


SECRETS = "/home/someone/models at 0x7f12345678 Traceback"


@pytest.mark.parametrize(
    "error",
    [
        ValueError(SECRETS),
        OSError(SECRETS),
        errors.Broken(SECRETS),
        errors.ProtocolError(SECRETS),
        InternalServerException(detail=SECRETS),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_is_unexpected_is_logged_and_not_told(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        made = reply(error)
    assert made.status == 500
    assert b"home" not in made.body
    assert b"0x" not in made.body
    assert SECRETS in caplog.text


@pytest.mark.parametrize(("wait", "told"), [(5, "5"), (0.2, "1"), (1000, "60")])
def test_retry_after_is_between_a_second_and_a_minute(wait: float, told: str) -> None:
    assert reply(errors.QueueFull("full", retry_after=wait)).headers["retry-after"] == told


def test_no_retry_after_without_one() -> None:
    assert "retry-after" not in reply(errors.ModelBusy("busy")).headers


def test_a_missing_key_is_asked_for() -> None:
    assert reply(NotAuthorizedException()).headers["www-authenticate"] == "Bearer"


def test_who_has_left_gets_nothing() -> None:
    assert (reply(ClientLeft()).status, reply(ClientLeft()).body) == (499, b"")
