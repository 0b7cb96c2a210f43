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
