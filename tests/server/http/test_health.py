from typing import Any, cast

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from server.http import health
from server.http.auth import ApiKey, Keyring, guard
from server.service.service import Service


class Hall:
    accepting = True


def client(hall: Hall, *warnings: str, keys: tuple[ApiKey, ...] = ()) -> TestClient[Litestar]:
    app = Litestar(
        [health.router(cast(Service, hall), warnings)],
        guards=[guard(Keyring(keys))],
        logging_config=None,
        openapi_config=None,
    )
    return TestClient(app)


PATHS = pytest.mark.parametrize("path", ["/health", "/v1/health"])


@PATHS
def test_ready_while_requests_are_accepted(path: str) -> None:
    with client(Hall()) as web:
        answer = web.get(path)
    assert answer.status_code == 200
    assert answer.json() == {"status": "ok", "live": True, "ready": True, "warnings": []}


@PATHS
def test_not_ready_while_the_server_drains(path: str) -> None:
    hall = Hall()
    with client(hall) as web:
        hall.accepting = False
        answer = web.get(path)
    assert answer.status_code == 503
    assert answer.json() == {"status": "draining", "live": True, "ready": False, "warnings": []}
    assert int(answer.headers["retry-after"]) > 0


def test_warnings_are_told() -> None:
    with client(Hall(), "no key is set", "another") as web:
        assert web.get("/health").json()["warnings"] == ["no key is set", "another"]


@PATHS
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_no_key_is_needed(path: str, method: str) -> None:
    with client(Hall(), keys=(ApiKey(name="a", key="k"),)) as web:
        answer: Any = web.request(method, path)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
