"""The table of errors."""

from typing import Any

import msgspec
import pytest
from litestar.exceptions import HTTPException, SerializationException

from compat.anthropic.errors import TABLE, reply
from server.core import errors as core
from server.http.disconnect import ClientLeft


def told(error: Exception) -> tuple[int, str, str, dict[str, str]]:
    answered = reply(error)
    body: dict[str, Any] = msgspec.json.decode(answered.body)
    assert body["type"] == "error" and set(body) == {"type", "error"} and set(body["error"]) == {"type", "message"}
    return answered.status, body["error"]["type"], body["error"]["message"], answered.headers


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (core.UnknownModel.named("x", ["y"]), 404, "not_found_error"),
        (core.InvalidValue.of("p", "bad"), 400, "invalid_request_error"),
        (core.Unsupported.of("p", "no"), 400, "invalid_request_error"),
        (core.QueueFull("full", retry_after=3), 529, "overloaded_error"),
        (core.ShuttingDown("down"), 529, "overloaded_error"),
        (core.DoesNotFit("big"), 507, "api_error"),
        (core.LoadFailed("bad"), 503, "api_error"),
        (core.WorkerDied("dead"), 503, "api_error"),
        (core.Broken("oh"), 500, "api_error"),
        (HTTPException(status_code=401, detail="Missing API key"), 401, "authentication_error"),
        (HTTPException(status_code=403), 403, "permission_error"),
        (HTTPException(status_code=404), 404, "not_found_error"),
        (HTTPException(status_code=405), 405, "invalid_request_error"),
        (HTTPException(status_code=413), 413, "request_too_large"),
        (HTTPException(status_code=503), 503, "overloaded_error"),
        (RecursionError(), 400, "invalid_request_error"),
        (SerializationException("x"), 400, "invalid_request_error"),
    ],
)
def test_statuses_and_types(error: Exception, status: int, kind: str) -> None:
    assert told(error)[:2] == (status, kind)


def test_every_core_error_has_its_row() -> None:
    def leaves(kind: type[core.ServerError]) -> list[type[core.ServerError]]:
        return [kind, *(leaf for child in kind.__subclasses__() for leaf in leaves(child))]

    for kind in leaves(core.ServerError):
        assert any(base in TABLE for base in kind.__mro__)
        assert (told(kind("x"))[0] >= 500) == (not issubclass(kind, core.BadRequest | core.Cancelled))


def test_delays() -> None:
    assert told(core.QueueFull("full", retry_after=3))[3]["retry-after"] == "3"
    assert told(core.LoadFailed("bad", retry_after=999))[3]["retry-after"] == "60"
    assert told(core.DoesNotFit("big"))[3] == {"x-should-retry": "false"}
    assert told(core.InvalidValue("x"))[3] == {}


def test_the_words_for_a_prompt_that_is_too_long() -> None:
    assert told(core.ContextTooLong.of(512, 900))[2] == "prompt is too long: 900 tokens > 512 maximum"


def test_the_unforeseen_is_not_described(caplog: pytest.LogCaptureFixture) -> None:
    status, kind, message, _ = told(ValueError("secret"))
    assert (status, kind) == (500, "api_error") and "secret" not in message
    assert "secret" in caplog.text


def test_folders_of_the_machine_are_left_out() -> None:
    assert "/srv" not in told(core.LoadFailed("cannot read /srv/models/x.gguf at 0xdeadbeef00"))[2]


def test_nobody_reads_the_answer_to_who_left() -> None:
    assert reply(ClientLeft()).status == 499
