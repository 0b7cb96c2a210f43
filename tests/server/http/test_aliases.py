import asyncio
from typing import Any

import pytest

from server.http.aliases import Aliases
from tests.support.asgi import http_scope

NAMES = {"/models": "/v1/models"}


def seen(scope: dict[str, Any]) -> dict[str, Any]:
    caught: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        caught.append(scope)

    asyncio.run(Aliases(app, NAMES)(scope, None, None))  # type: ignore[arg-type]
    return dict(caught[0])


def test_a_further_name_is_the_path_that_is_meant() -> None:
    asked = http_scope("/models")
    scope = seen(asked)
    assert (scope["path"], scope["raw_path"]) == ("/v1/models", b"/v1/models")
    assert asked["path"] == "/models"
    assert scope["headers"] == asked["headers"]


@pytest.mark.parametrize("path", ["/", "/models/", "/models/x", "/v1/models", "/MODELS"])
def test_other_paths_pass(path: str) -> None:
    assert seen(http_scope(path))["path"] == path


def test_what_is_not_http_passes() -> None:
    assert seen({"type": "lifespan"}) == {"type": "lifespan"}


def beginning(path: str) -> dict[str, Any]:
    caught: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        caught.append(scope)

    asyncio.run(Aliases(app, {}, {"/file=": "/internal/file"})(http_scope(path), None, None))  # type: ignore[arg-type]
    return dict(caught[0])


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/file=outputs/a b.png", b"name=outputs%2Fa%20b.png"),
        ("/file=/etc/passwd", b"name=%2Fetc%2Fpasswd"),
        ("/file=a&b=c#d?e", b"name=a%26b%3Dc%23d%3Fe"),
        ("/file=", b"name="),
    ],
)
def test_what_follows_a_beginning_is_a_query(path: str, query: bytes) -> None:
    scope = beginning(path)
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/internal/file", b"/internal/file", query)


def test_other_beginnings_pass() -> None:
    assert beginning("/files/x")["path"] == "/files/x"
