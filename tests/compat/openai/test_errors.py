"""Everything that can go wrong, in OpenAI's words."""

import json
import logging
from typing import Any

import msgspec
import pytest
from litestar.exceptions import (
    ClientException,
    HTTPException,
    InternalServerException,
    MethodNotAllowedException,
    NotAuthorizedException,
    NotFoundException,
    PermissionDeniedException,
    ValidationException,
)

from compat.openai import wire
from compat.openai.errors import reply
from server.core import errors as core
from server.http.disconnect import ClientLeft
from server.http.refusals import body_error

INVALID = "invalid_request_error"


def error_of(error: Exception) -> Any:
    body = json.loads(reply(error).body)
    assert set(body) == {"error"}
    assert {"message", "type", "param", "code"} <= set(body["error"])
    assert body["error"]["message"]
    return body["error"]


@pytest.mark.parametrize(
    ("error", "status", "kind", "code", "param"),
    [
        (core.UnknownModel.named("x", ["y"]), 404, INVALID, "model_not_found", "model"),
        (core.InvalidValue.of("n", "bad n"), 400, INVALID, "invalid_value", "n"),
        (core.Unsupported.of("audio", "no audio"), 400, INVALID, "unsupported_parameter", "audio"),
        (core.ContextTooLong.of(10, 20), 400, "exceed_context_size_error", "context_length_exceeded", "messages"),
        (core.BadImage("bad", param="messages[0]"), 400, INVALID, "invalid_image", "messages[0]"),
        (core.BadRequest("bad"), 400, INVALID, "bad_request", None),
        (core.QueueFull("full"), 429, "rate_limit_error", "queue_full", None),
        (core.ModelBusy("busy"), 503, "server_error", "model_busy", None),
        (core.ShuttingDown("down"), 503, "server_error", "shutting_down", None),
        (core.NotNow("later"), 503, "server_error", "not_now", None),
        (core.DoesNotFit("big"), 507, "server_error", "insufficient_memory", "model"),
        (core.LoadFailed("bad file"), 503, "server_error", "model_load_failed", "model"),
        (core.CannotServe("no"), 503, "server_error", "cannot_serve", None),
        (core.Cancelled("ended"), 499, INVALID, "cancelled", None),
        (core.WorkerDied("died"), 503, "server_error", "worker_died", None),
        (core.OutOfMemory("oom"), 503, "server_error", "insufficient_memory", None),
        (core.ProtocolError("odd"), 500, "server_error", "internal_error", None),
        (core.ServerError("odd"), 500, "server_error", "internal_error", None),
        (NotAuthorizedException(detail="a key is needed"), 401, INVALID, "invalid_api_key", None),
        (PermissionDeniedException(detail="foreign host"), 403, INVALID, "forbidden", None),
        (NotFoundException(), 404, INVALID, "unknown_url", None),
        (MethodNotAllowedException(), 405, INVALID, "method_not_allowed", None),
        (HTTPException(status_code=413, detail="too large"), 413, INVALID, "request_too_large", None),
        (HTTPException(status_code=418), 418, INVALID, "invalid_request", None),
        (ClientException("odd"), 400, INVALID, "invalid_request", None),
        (ValidationException(extra=[{"key": "limit", "message": "m"}]), 400, INVALID, "invalid_request", "limit"),
        (InternalServerException(detail="secret"), 500, "server_error", "internal_error", None),
        (RecursionError(), 400, INVALID, "invalid_value", None),
        (UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"), 400, INVALID, "invalid_value", None),
        (msgspec.DecodeError("cut"), 400, INVALID, "invalid_value", None),
        (ValueError("secret"), 500, "server_error", "internal_error", None),
    ],
)
def test_the_table(error: Exception, status: int, kind: str, code: str, param: str | None) -> None:
    told = error_of(error)
    assert reply(error).status == status
    assert (told["type"], told["code"], told["param"]) == (kind, code, param)
    assert "secret" not in told["message"]


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (core.QueueFull("x", retry_after=3), "3"),
        (core.QueueFull("x", retry_after=0.2), "1"),
        (core.QueueFull("x", retry_after=900), "60"),
        (core.QueueFull("x"), "5"),
        (core.WorkerDied("x", retry_after=1), "1"),
        (core.LoadFailed("x", retry_after=12.4), "13"),
        (core.DoesNotFit("x", retry_after=12.4), None),
        (core.InvalidValue("x"), None),
    ],
)
def test_how_long_to_wait(error: Exception, seconds: str | None) -> None:
    assert reply(error).headers.get("retry-after") == seconds


def test_what_can_never_work_is_not_to_be_repeated() -> None:
    assert reply(core.DoesNotFit("x")).headers == {"x-should-retry": "false"}


def test_the_context_error_has_the_words_and_numbers_that_clients_look_for() -> None:
    told = error_of(core.ContextTooLong.of(512, 600))
    assert (told["n_prompt_tokens"], told["n_ctx"]) == (600, 512)
    message = told["message"].lower()
    for words in ("this model's maximum context length is", "prompt is too long", "context_length_exceeded"):
        assert words in message


def test_close_matches_are_named() -> None:
    assert "llama-3" in error_of(core.UnknownModel.named("lama-3", ["llama-3"]))["message"]


def test_a_client_that_left_gets_nothing() -> None:
    answer = reply(ClientLeft())
    assert (answer.status, answer.body) == (499, b"")


def test_headers_of_the_guard_are_kept() -> None:
    error = NotAuthorizedException(headers={"WWW-Authenticate": "Bearer"})
    assert reply(error).headers == {"WWW-Authenticate": "Bearer"}


@pytest.mark.parametrize(("headers", "delay"), [({"Retry-After": "7"}, "7"), ({}, "5")])
def test_a_busy_gate_is_told_with_its_words_and_delay(headers: dict[str, str], delay: str) -> None:
    busy = HTTPException("too much is under way", status_code=503, headers=headers)
    told = error_of(busy)
    assert (told["message"], told["code"]) == ("too much is under way", "not_now")
    sent = [value for name, value in reply(busy).headers.items() if name.lower() == "retry-after"]
    assert (reply(busy).status, sent) == (503, [delay])


@pytest.mark.parametrize("kind", [core.LoadFailed, core.WorkerDied, core.Broken])
def test_paths_and_addresses_are_not_told(kind: type[core.ServerError]) -> None:
    told = error_of(kind("cannot map '/home/somebody/models/text/a.gguf' at 0x7f00deadbeef, and/or 3/4"))["message"]
    assert told == "cannot map 'a.gguf' at 0x..., and/or 3/4"


def test_the_unexpected_is_logged_and_not_described(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        told = error_of(KeyError("secret"))
    assert "secret" not in told["message"]
    assert caplog.records[0].exc_info is not None


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'{"messages": [{"role": "user", "content": "x"}, {"role": "nobody"}]}', "messages[1].role"),
        (b'{"messages": [{"content": "x"}]}', "messages[0].role"),
        (b'{"messages": "x"}', "messages"),
        (b'{"messages": []}', "messages"),
        (b"{}", "messages"),
        (b'{"messages": [{"role": "user", "content": "x"}], "n": 129}', "n"),
        (b'{"messages": [{"role": "user", "content": "x"}], "n": 18446744073709551616}', "n"),
        (b'{"messages": [{"role": "user", "content": "x"}], "temperature": "hot"}', "temperature"),
        (b'{"messages": [{"role": "user", "content": "x"}], "temperature": 1e999}', "temperature"),
        (b'{"messages": [{"role": "user", "content": "x"}], "stop": ["a", 1]}', "stop[1]"),
        (b'{"messages": [{"role": "user", "content": "x"}], "logit_bias": {"5": "x"}}', "logit_bias"),
        (b'{"messages": [{"role": "user", "content": "x"}], "tools": [{"function": {}}]}', "tools[0].function.name"),
        (b"[]", None),
        (b"nonsense", None),
        (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', None),
        (b'{"messages": [{"role": "user", "content": "\xff"}]}', None),
        (b'{"audio": ' + b"[" * 100_000, None),
        (b'{"unknown": ' + b"[" * 100_000, None),
    ],
)
def test_the_path_of_a_wrong_field(body: bytes, param: str | None) -> None:
    with pytest.raises((msgspec.DecodeError, RecursionError, UnicodeDecodeError)) as caught:
        msgspec.json.decode(body, type=wire.ChatCompletionRequest)
    error = body_error(caught.value)
    assert error.fact("param") == param
    assert param is None or f"'{param}'" in error.message
