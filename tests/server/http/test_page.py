import asyncio
import re

import httpx
import pytest
from litestar import Litestar

from server.http import page
from server.http.auth import ApiKey, Keyring, guard
from tests.support.asgi import Exchange, ask, http_scope
from tests.support.live_server import live_server

APP = Litestar([page.router()], logging_config=None, openapi_config=None)


def fetch(method: str = "GET", **headers: str) -> Exchange:
    return asyncio.run(ask(APP, http_scope("/", method, headers)))


def test_it_names_the_doors_at_the_address_it_was_asked_at() -> None:
    done = fetch(host="studio.local:9000")
    text = done.body.decode()
    assert done.headers["content-type"].startswith("text/html")
    assert "http://studio.local:9000/v1<" in text
    assert "http://studio.local:9000<" in text
    assert page.ORIGIN not in text


def test_the_policy_allows_exactly_what_is_in_it() -> None:
    done = fetch()
    policy = done.headers["content-security-policy"]
    assert policy == page.policy(done.body.decode()), "what is filled in must not change a hash"
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert len(re.findall(r"sha256-[A-Za-z0-9+/]{43}=", policy)) == 2


def test_it_needs_nothing_from_elsewhere() -> None:
    text = page.FILE.read_text()
    assert not re.search(r"\b(src|href)\s*=|@import|url\(|https?://|\son[a-z]+\s*=|\sstyle\s*=", text)


def test_its_script_writes_no_markup() -> None:
    """Names of models are texts of others: they go in as text."""
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", page.FILE.read_text())


def test_its_script_asks_only_routes_of_the_house() -> None:
    asked = set(re.findall(r'fetch\("([^"]+)"', page.FILE.read_text()))
    assert asked == {"/health", "/hearth/v1/models", "/v1/chat/completions", "/sdapi/v1/txt2img"}


def test_a_host_cannot_put_markup_in() -> None:
    assert b"<script>x" not in fetch(host='"><script>x').body


@pytest.mark.parametrize("parser", ["h11", "httptools"])
def test_head_is_the_page_without_its_body(parser: str) -> None:
    with live_server(APP, http=parser) as base:
        got, head = httpx.get(base + "/"), httpx.head(base + "/")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == got.headers["content-type"]
    assert head.headers["content-length"] == str(len(got.content))


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("application/json", "application/json"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/html"),
        ("*/*", "text/html"),
        ("image/png", "text/html"),
        ("application/json;q=0.5, text/html", "text/html"),
    ],
)
def test_programs_may_ask_for_json(accept: str, kind: str) -> None:
    done = fetch(accept=accept, host="localhost:1")
    assert done.status == 200
    assert done.headers["content-type"].startswith(kind)
    assert done.headers["vary"] == "Accept"


def test_no_key_is_needed_to_see_it() -> None:
    keyring = Keyring([ApiKey(name="a", key="k")])
    app = Litestar([page.router()], guards=[guard(keyring)], logging_config=None, openapi_config=None)
    assert asyncio.run(ask(app, http_scope("/"))).status == 200
