import asyncio
import base64
import hashlib
import hmac
from typing import Any

import pytest
from litestar import Litestar, Request, get, post
from litestar.testing import TestClient

from server.http.auth import ApiKey, Keyring, guard, is_local, owner_of
from tests.support.asgi import ask, http_scope

SECRETS = {"ann": "sk-ann-1", "bob": "bob:pass:word", "cy": "ключ"}
KEYS = tuple(ApiKey(name=name, key=key) for name, key in SECRETS.items())


def basic(pair: str) -> str:
    return "Basic " + base64.b64encode(pair.encode()).decode()


def app(*keys: ApiKey, exposed: bool = False) -> Litestar:
    @get("/who")
    async def who(request: Request[Any, Any, Any]) -> dict[str, str]:
        return {"owner": owner_of(request)}

    @get("/health", opt={"public": True})
    async def health(request: Request[Any, Any, Any]) -> dict[str, str]:
        return {"owner": owner_of(request)}

    @post("/unload", opt={"admin": True}, status_code=200)
    async def unload() -> None: ...

    handlers = [who, health, unload]
    return Litestar(handlers, guards=[guard(Keyring(keys), exposed=exposed)], logging_config=None, openapi_config=None)


ACCEPTED = [
    ({"authorization": "Bearer sk-ann-1"}, "ann"),
    ({"authorization": "bearer   sk-ann-1 "}, "ann"),
    ({"x-api-key": "sk-ann-1"}, "ann"),
    ({"api-key": "sk-ann-1"}, "ann"),
    ({"authorization": basic("anyone:sk-ann-1")}, "ann"),
    ({"authorization": basic(":sk-ann-1")}, "ann"),
    ({"authorization": basic("bob:pass:word")}, "bob"),
    ({"authorization": "Bearer bob:pass:word"}, "bob"),
    ({"authorization": basic("x:ключ")}, "cy"),
    ({"authorization": "Bearer wrong", "x-api-key": "sk-ann-1"}, "ann"),
    ({"authorization": "Basic ", "api-key": "sk-ann-1"}, "ann"),
]

REFUSED = [
    {},
    {"authorization": ""},
    {"authorization": "Bearer"},
    {"authorization": "Bearer "},
    {"authorization": "Bearer null"},
    {"authorization": "Bearer undefined"},
    {"authorization": "Bearer sk-ann-2"},
    {"authorization": "Bearer SK-ANN-1"},
    {"authorization": "Bearer sk-ann-1x"},
    {"authorization": "Bearer sk-ann-"},
    {"authorization": "sk-ann-1"},
    {"authorization": "Token sk-ann-1"},
    {"authorization": "Basic "},
    {"authorization": "Basic sk-ann-1"},
    {"authorization": "Basic !!!"},
    {"authorization": basic("sk-ann-1")},
    {"authorization": basic("sk-ann-1:")},
    {"authorization": basic("")},
    {"authorization": basic(":")},
    {"authorization": basic("bob:pass")},
    {"authorization": basic("ann:" + hashlib.sha256(b"sk-ann-1").hexdigest())},
    {"authorization": "Basic " + base64.b64encode(b"\xff\xfe:\xff").decode()},
    {"x-api-key": ""},
    {"x-api-key": "pass:word"},
    {"cookie": "x-api-key=sk-ann-1"},
]


@pytest.mark.parametrize(("headers", "owner"), ACCEPTED)
def test_a_key_opens_in_each_of_its_forms(headers: dict[str, str], owner: str) -> None:
    with TestClient(app(*KEYS)) as client:
        assert client.get("/who", headers=headers).json() == {"owner": owner}


@pytest.mark.parametrize("headers", REFUSED)
def test_anything_else_does_not(headers: dict[str, str]) -> None:
    with TestClient(app(*KEYS)) as client:
        assert client.get("/who", headers=headers).status_code == 401


@pytest.mark.parametrize("headers", [headers for headers, _ in ACCEPTED] + REFUSED)
def test_without_keys_whatever_is_sent_is_fine(headers: dict[str, str]) -> None:
    with TestClient(app()) as client:
        assert client.get("/who", headers=headers).json() == {"owner": ""}


def test_only_what_says_so_is_public() -> None:
    with TestClient(app(*KEYS)) as client:
        assert client.get("/health").status_code == 200
        refused = {
            path: client.request(method, path).status_code for method, path in [("GET", "/who"), ("POST", "/unload")]
        }
    assert refused == {"/who": 401, "/unload": 401}


def test_no_host_or_path_gets_around_the_key() -> None:
    """The URL that a framework rebuilds from Host decides nothing (T2)."""
    hosts = ["x/health?", "health", "localhost/health", "a@b/health#", "localhost:7860/health?x="]
    paths = ["/who", "/who/", "//who", "/health/../who", "/who;/health", "/who%2f..%2fhealth"]

    async def scenario() -> set[int]:
        return {
            (await ask(app(*KEYS), http_scope(path, headers={"host": host}))).status for host in hosts for path in paths
        }

    assert asyncio.run(scenario()) <= {400, 401, 404}


@pytest.mark.parametrize("secret", ["sk-ann-1", "wrong", "", "x" * 10_000, "ключ", "\udcff"])
def test_every_key_is_compared_whatever_comes(secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ring, calls = Keyring(KEYS), []
    real = hmac.compare_digest

    def counting(left: bytes, right: bytes) -> bool:
        calls.append((len(left), len(right)))
        return real(left, right)

    monkeypatch.setattr(hmac, "compare_digest", counting)
    ring.owner([secret])
    assert calls == [(32, 32)] * len(KEYS)


def test_a_keyring_holds_no_secret() -> None:
    ring = Keyring(KEYS)
    assert not any(secret in repr(vars(ring)) for secret in SECRETS.values())


def test_a_key_may_be_stored_as_its_digest() -> None:
    digest = hashlib.sha256(b"sk-ann-1").hexdigest()
    ring = Keyring([ApiKey(name="ann", key="sha256:" + digest)])
    assert ring.owner(["sk-ann-1"]) == "ann"
    assert ring.owner([digest]) is None
    assert ring.owner(["sha256:" + digest]) is None


@pytest.mark.parametrize("key", ["", "sha256:", "sha256:00", "sha256:xyz"])
def test_a_key_that_is_none_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match=r"key|hex"):
        Keyring([ApiKey(name="ann", key=key)])


LOCAL = [
    (("127.0.0.1", 1), {}, True),
    (("127.8.9.1", 1), {}, True),
    (("::1", 1), {}, True),
    (("::ffff:127.0.0.1", 1), {}, True),
    (None, {}, True),
    (("192.168.1.9", 1), {}, False),
    (("::ffff:10.0.0.1", 1), {}, False),
    (("nonsense", 1), {}, False),
    (("127.0.0.1", 1), {"x-forwarded-for": "127.0.0.1"}, False),
    (("127.0.0.1", 1), {"forwarded": "for=127.0.0.1"}, False),
]


@pytest.mark.parametrize(("client", "headers", "expected"), LOCAL)
def test_local_is_this_machine_and_no_proxy_on_it(
    client: tuple[str, int] | None, headers: dict[str, str], expected: bool
) -> None:
    assert is_local(http_scope(headers=headers, client=client)) is expected


@pytest.mark.parametrize(
    ("client", "exposed", "keyed", "status"),
    [
        ("127.0.0.1", False, False, 200),
        ("127.0.0.1", True, False, 200),
        ("10.0.0.9", True, False, 403),
        ("10.0.0.9", False, False, 200),
        ("10.0.0.9", True, True, 200),
    ],
)
def test_admin_without_a_key_is_for_this_machine(client: str, exposed: bool, keyed: bool, status: int) -> None:
    keys, headers = (KEYS, {"x-api-key": "sk-ann-1"}) if keyed else ((), {})
    scope = http_scope("/unload", "POST", headers, client=(client, 5))
    assert asyncio.run(ask(app(*keys, exposed=exposed), scope)).status == status
