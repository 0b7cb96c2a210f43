import json
import re

import msgspec
import pytest
from litestar.exceptions import (
    HTTPException,
    MethodNotAllowedException,
    NotAuthorizedException,
    NotFoundException,
    ValidationException,
)

from compat.a1111.errors import reply
from compat.a1111.lenient import Problem, Unreadable
from compat.a1111.refusals import NotHere, Refused, unknown_checkpoint
from server.core import errors as core
from server.http.disconnect import ClientLeft


def four(error: str, detail: str = "", errors: str = "") -> dict[str, str]:
    return {"error": error, "detail": detail, "body": "", "errors": errors}


@pytest.mark.parametrize(
    ("error", "status", "body"),
    [
        (Refused.http("Script 'x' not found"), 422, four("HTTPException", "Script 'x' not found")),
        (Refused.raised("Exception", "no such"), 422, four("Exception", "", "no such")),
        (Refused.raised("FileNotFoundError", "none", status=404), 404, four("FileNotFoundError", "", "none")),
        (NotHere.of("img2img"), 501, four("NotImplementedError", *["img2img is not offered by this server yet"] * 2)),
        (unknown_checkpoint("nope"), 404, four("RuntimeError", "", "model 'nope' not found")),
        (core.Unsupported.of("x", "no x"), 422, four("Unsupported", "no x", "no x")),
        (core.QueueFull("full", retry_after=3), 429, four("QueueFull", "full", "full")),
        (core.ShuttingDown("bye"), 503, four("ShuttingDown", "bye", "bye")),
        (core.DoesNotFit("big", needed=2, limit=1), 507, four("DoesNotFit", "big", "big")),
        (core.WorkerDied("gone"), 503, four("WorkerDied", "gone", "gone")),
        (core.Broken("odd"), 500, four("Broken", "odd", "odd")),
        (HTTPException(status_code=413, detail="too large"), 413, four("HTTPException", "too large")),
        (HTTPException(status_code=403, detail="not this host"), 403, four("HTTPException", "not this host")),
        (NotAuthorizedException(detail="Missing API key"), 401, four("HTTPException", "Missing API key")),
        (NotFoundException(), 404, {"detail": "Not Found"}),
        (MethodNotAllowedException(), 405, {"detail": "Method Not Allowed"}),
    ],
)
def test_shapes(error: Exception, status: int, body: dict[str, str]) -> None:
    told = reply(error)
    assert (told.status, json.loads(told.body)) == (status, body)


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (
            core.InvalidValue.of("steps", "too few"),
            [{"loc": ["body", "steps"], "msg": "too few", "type": "value_error"}],
        ),
        (
            Unreadable([Problem(loc=["body", 3], msg="m", type="t", ctx={"pos": 3})]),
            [{"loc": ["body", 3], "msg": "m", "type": "t", "ctx": {"pos": 3}}],
        ),
        (
            ValidationException(extra=[{"message": "no bool", "key": "skip_current_image", "source": "query"}]),
            [{"loc": ["query", "skip_current_image"], "msg": "no bool", "type": "value_error"}],
        ),
        (ValidationException(), [{"loc": ["body"], "msg": "field required", "type": "value_error.missing"}]),
        (RecursionError(), [{"loc": ["body"], "msg": "the body cannot be read", "type": "value_error"}]),
        (msgspec.DecodeError("x"), [{"loc": ["body"], "msg": "the body cannot be read", "type": "value_error"}]),
    ],
)
def test_what_is_wrong_with_a_body_is_a_list(error: Exception, detail: list[object]) -> None:
    told = reply(error)
    assert (told.status, json.loads(told.body)) == (422, {"detail": detail})


def test_a_passing_trouble_names_a_delay() -> None:
    assert reply(core.QueueFull("full", retry_after=3)).headers == {"retry-after": "3"}
    assert reply(core.LoadFailed("broken")).headers == {"retry-after": "10"}
    assert reply(core.DoesNotFit("big")).headers == {}


def test_the_unexpected_is_not_described(caplog: pytest.LogCaptureFixture) -> None:
    told = reply(ValueError("secret at 0xdeadbeef in /home/me/x.py"))
    assert told.status == 500
    assert not re.search(rb"secret|0x|/home|Traceback", told.body)
    assert "secret" in caplog.text


def test_our_own_troubles_tell_no_folders() -> None:
    body = reply(core.LoadFailed("cannot read /srv/models/x.safetensors at 0x7f00deadbeef")).body
    assert b"/srv" not in body
    assert b"7f00" not in body
    assert b"x.safetensors" in body


def test_every_core_error_has_an_answer() -> None:
    def tree(root: type[core.ServerError]) -> list[type[core.ServerError]]:
        return [root, *(kind for child in root.__subclasses__() for kind in tree(child))]

    for kind in tree(core.ServerError):
        if kind.__module__ == core.__name__:
            told = reply(kind("text"))
            assert 400 <= told.status < 600
            assert told.status < 500 or not issubclass(kind, core.BadRequest)


def test_who_left_gets_nothing() -> None:
    assert (reply(ClientLeft()).status, reply(ClientLeft()).body) == (499, b"")


def test_a_busy_gate_is_told_with_its_words_and_delay() -> None:
    told = reply(HTTPException("too much is under way", status_code=503, headers={"retry-after": "5"}))
    assert (told.status, told.headers["retry-after"]) == (503, "5")
    assert b"too much is under way" in told.body and b"InternalServerError" not in told.body
