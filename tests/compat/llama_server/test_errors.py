"""The table of errors."""

from typing import Any

import msgspec
import pytest
from litestar.exceptions import HTTPException

from compat.llama_server.errors import TABLE, reply
from server.core import errors as core
from server.http.disconnect import ClientLeft


def told(error: Exception) -> tuple[int, dict[str, Any], dict[str, str]]:
    answered = reply(error)
    body: dict[str, Any] = msgspec.json.decode(answered.body)
    assert body["error"]["code"] == answered.status
    return answered.status, body["error"], answered.headers


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (core.UnknownModel.named("x", ["y"]), 404, "not_found_error"),
        (core.InvalidValue.of("p", "bad"), 400, "invalid_request_error"),
        (core.QueueFull("full", retry_after=3), 429, "unavailable_error"),
        (core.ShuttingDown("down"), 503, "unavailable_error"),
        (core.DoesNotFit("big"), 507, "server_error"),
        (core.LoadFailed("bad"), 503, "unavailable_error"),
        (core.Broken("oh"), 500, "server_error"),
        (HTTPException(status_code=401), 401, "authentication_error"),
        (HTTPException(status_code=404), 404, "not_found_error"),
        (HTTPException(status_code=405), 405, "invalid_request_error"),
        (HTTPException(status_code=413), 413, "invalid_request_error"),
        (RecursionError(), 400, "invalid_request_error"),
    ],
)
def test_statuses_and_types(error: Exception, status: int, kind: str) -> None:
    assert told(error)[0] == status and told(error)[1]["type"] == kind


def test_every_core_error_has_its_row() -> None:
    def leaves(kind: type[core.ServerError]) -> list[type[core.ServerError]]:
        return [kind, *(leaf for child in kind.__subclasses__() for leaf in leaves(child))]

    for kind in leaves(core.ServerError):
        assert any(base in TABLE for base in kind.__mro__)
        is_mistake = issubclass(kind, core.BadRequest | core.Cancelled | core.QueueFull)
        assert (told(kind("x"))[0] >= 500) == (not is_mistake)


def test_a_prompt_that_is_too_long_tells_both_numbers() -> None:
    _, error, _ = told(core.ContextTooLong.of(512, 900))
    assert error["type"] == "exceed_context_size_error"
    assert (error["n_prompt_tokens"], error["n_ctx"]) == (900, 512)


def test_delays_and_params() -> None:
    assert told(core.QueueFull("full", retry_after=3))[2] == {"retry-after": "3"}
    assert told(core.DoesNotFit("big"))[2] == {"x-should-retry": "false"}
    assert told(core.InvalidValue.of("top_k", "bad"))[1]["param"] == "top_k"
    assert "param" not in told(core.InvalidValue("bad"))[1]


def test_the_unforeseen_is_not_described(caplog: pytest.LogCaptureFixture) -> None:
    status, error, _ = told(ValueError("secret"))
    assert status == 500 and "secret" not in error["message"] and "secret" in caplog.text
    assert reply(ClientLeft()).status == 499
