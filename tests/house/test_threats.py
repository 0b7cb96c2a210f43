"""Threats to a whole house over fakes: who may do what, what may come in, what gets out.

The routes are those of the app's own table, so that one that is added is judged too.
"""

import asyncio
import base64
import gzip
import io
import logging
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import httpx
import msgspec
import pytest

from server.app import House
from server.config import AuthConfig, Config, ModelsConfig, ServerConfig
from server.doors import ALIASES
from server.engines.fake import png
from server.logs import LineFormatter
from server.registry.catalog import Catalog
from server.serve import banner
from tests.support.aio import asynchronous, children
from tests.support.asgi import Exchange, ask, http_scope
from tests.support.fakes import text_model
from tests.support.open_house import (
    OpenHouse,
    Shelf,
    chat_body,
    endless_body,
    open_house,
    painter,
    picture_body,
    talker,
)
from tests.support.waiting import eventually

CHAT = "/v1/chat/completions"
KEYS = ("anna-has-this-key", "bert-has-this-key")
PUBLIC = {"/", "/health", "/v1/health", "/v1/images/files/{file}"}
STRANGER = ("192.0.2.7", 40000)
PICTURE = base64.b64encode(png(16, 16, (1, 2, 3))).decode()
LEAK = re.compile(r"root:|0x[0-9a-f]{6,}|/home/|Traceback|site-packages")
Call = tuple[str, str, dict[str, Any]]


def built(folder: Path, *, host: str = "127.0.0.1", keys: tuple[str, ...] = ()) -> House:
    """Return a house that is not served."""
    config = Config(
        server=ServerConfig(host=host, state_dir=str(folder / "state")),
        auth=AuthConfig(keys=keys),
        models=ModelsConfig(folders=(str(folder),)),
    )
    return House(config, catalog=cast("Catalog", Shelf(talker(folder), painter(folder))))


def calls(house: House) -> Iterator[Call]:
    """Yield method, path and options of every handler that we wrote."""
    for route in house.litestar.routes:
        for handler in getattr(route, "route_handlers", ()):
            for method in set(handler.http_methods) - {"OPTIONS"}:
                yield method, str(getattr(route, "path_format", route.path)), dict(handler.opt)


def knock(house: House, method: str, path: str, *, client: tuple[str, int] = STRANGER, **headers: str) -> Exchange:
    """Return the answer to a request with a body that is no good."""
    there = re.sub(r"\{[^}]*\}", "nothing", path)
    given = {"content-type": "application/json", "content-length": "1", **headers}
    return asyncio.run(ask(house.asgi, http_scope(there, method, given, client=client), [b"]"]))


def test_without_a_key_other_machines_may_use_but_not_govern(tmp_path: Path) -> None:
    house = built(tmp_path, host="0.0.0.0")
    governing = [(method, path) for method, path, options in calls(house) if options.get("admin")]
    assert {("POST", "/sdapi/v1/options"), ("POST", "/hearth/v1/models/load")} <= set(governing)
    for method, path in governing:
        assert knock(house, method, path).status == 403, path
        assert knock(house, method, path, client=("127.0.0.1", 1)).status != 403, path
        proxied = {"x-forwarded-for": "127.0.0.1"}
        assert knock(house, method, path, client=("127.0.0.1", 1), **proxied).status == 403, "a proxy may be anybody"
    assert knock(house, "POST", CHAT).status == 400
    assert b"without a key" in knock(house, "GET", "/health").body
    assert "without a key" in banner(house, "http://127.0.0.1:7860")


def test_on_loopback_or_with_a_key_nothing_is_warned_of(tmp_path: Path) -> None:
    for house in (built(tmp_path), built(tmp_path, host="0.0.0.0", keys=KEYS)):
        assert b"without a key" not in knock(house, "GET", "/health").body
        assert "without a key" not in banner(house, "http://127.0.0.1:7860")


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_with_keys_every_route_but_the_public_ones_wants_one(tmp_path: Path, host: str) -> None:
    house = built(tmp_path, host=host, keys=KEYS)
    seen = set()
    for method, path, _ in calls(house):
        if path in PUBLIC:
            continue
        seen.add(path)
        for headers in ({}, {"authorization": "Bearer wrong"}, {"host": "localhost/health?"}):
            status = knock(house, method, path, client=("127.0.0.1", 1), **headers).status
            assert status == (400 if "host" in headers else 401), (method, path, headers)
    for alias, meant in ALIASES.items():
        method = next(method for method, path, _ in calls(house) if path == meant)
        assert knock(house, method, alias).status == 401
    assert len(seen) > 50


def test_what_is_public_is_listed_here(tmp_path: Path) -> None:
    public = {path for _, path, options in calls(built(tmp_path)) if options.get("public")}
    assert public == PUBLIC


def test_nothing_changes_on_get(tmp_path: Path) -> None:
    verbs = ("load", "unload", "cancel", "interrupt", "skip", "refresh", "rescan", "reload", "create", "train")
    for method, path, _ in calls(built(tmp_path)):
        if any(word.startswith(verbs) for word in re.split(r"[/-]", path)):
            assert method == "POST", path


@asynchronous
async def test_one_keys_crowd_does_not_starve_another(tmp_path: Path) -> None:
    async with (
        open_house(tmp_path, talker(tmp_path, slots=1, step_ms=5), keys=KEYS) as house,
        house.another(KEYS[0]) as anna,
        house.another(KEYS[1]) as bert,
    ):
        answered: list[str] = []

        async def asks(client: httpx.AsyncClient, who: str) -> None:
            answer = await client.post(CHAT, json=chat_body(who))
            assert answer.status_code == 200, answer.text
            answered.append(who)

        async with anna.stream("POST", CHAT, json=endless_body()):
            (first,) = await house.job_in("running")
            crowd = [asyncio.create_task(asks(anna, "anna")) for _ in range(50)]
            await house.job_in("waiting", 50)
            late = asyncio.create_task(asks(bert, "bert"))
            await job_of(bert)
            assert (await anna.post(f"/hearth/v1/jobs/{first['id']}/cancel", json={})).json() == {"cancelled": True}
            await asyncio.gather(late, *crowd)
        assert answered.index("bert") < 3
        assert len(answered) == 51


async def job_of(client: httpx.AsyncClient) -> dict[str, Any]:
    """Wait for a client's first job and return it."""

    async def there() -> dict[str, Any]:
        jobs = (await client.get("/hearth/v1/jobs")).json()["jobs"]
        return dict(jobs[0]) if jobs else {}

    return await eventually(there)


def test_packed_bodies_are_refused_at_every_door(tmp_path: Path) -> None:
    house = built(tmp_path)
    bomb = gzip.compress(bytes(1 << 20))
    for method, path, _ in calls(house):
        if method == "POST":
            headers = {"content-encoding": "gzip", "content-length": str(len(bomb))}
            scope = http_scope(re.sub(r"\{.*\}", "x", path), method, headers)
            assert asyncio.run(ask(house.asgi, scope, [bomb])).status == 415, path


@pytest.mark.parametrize(
    ("path", "limit"),
    [
        (CHAT, 64 << 20),
        ("/completion", 64 << 20),
        ("/sdapi/v1/txt2img", 256 << 20),
        ("/hearth/v1/models/load", 1 << 20),
    ],
)
def test_bodies_over_the_limit_of_their_door_are_refused_unread(tmp_path: Path, path: str, limit: int) -> None:
    house = built(tmp_path)
    assert knock(house, "POST", path, **{"content-length": str(limit + 1)}).status == 413


@asynchronous
async def test_a_large_picture_is_welcome(tmp_path: Path) -> None:
    async with open_house(tmp_path, painter(tmp_path)) as house:
        large = png(16, 16, (1, 2, 3))[:-12] + b"".join(
            [(17 << 20).to_bytes(4), b"tEXt", b"a\0", bytes((17 << 20) - 2), b"\0\0\0\0"]
        )
        body = {"image": base64.b64encode(large).decode()}
        answer = await house.client.post("/sdapi/v1/png-info", json=body)
        assert answer.status_code in (200, 422), answer.text
        body = picture_body("a boat", init_images=[base64.b64encode(large).decode()])
        assert (await house.client.post("/sdapi/v1/txt2img", json=body)).status_code == 200


def integers(house: House) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield every integer of every JSON body at any depth: route, place and its JSON schema."""
    for route in house.litestar.routes:
        for handler in getattr(route, "route_handlers", ()):
            field = handler.parsed_data_field
            if "POST" in handler.http_methods and field is not None:
                (schema,), named = msgspec.json.schema_components([field.annotation])
                for place, inner in _integers(schema, named, "", frozenset()):
                    yield route.path, place, inner


def _integers(
    schema: Any, named: dict[str, Any], place: str, seen: frozenset[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    if not isinstance(schema, dict):
        return
    reference = str(schema.get("$ref", "")).rpartition("/")[2]
    if reference and reference not in seen:
        yield from _integers(named[reference], named, place, seen | {reference})
    for inner in (*schema.get("anyOf", ()), *schema.get("prefixItems", ())):
        yield from _integers(inner, named, place, seen)
    for name, inner in schema.get("properties", {}).items():
        yield from _integers(inner, named, f"{place}.{name}", seen)
    for key in ("items", "additionalProperties"):
        yield from _integers(schema.get(key), named, f"{place}[]", seen)
    if schema.get("type") == "integer":
        yield place, schema


def test_every_whole_number_has_bounds(tmp_path: Path) -> None:
    """The A1111 door takes numbers as loosely as the original and bounds them itself; the next test asks it."""
    count = 0
    for path, place, schema in integers(built(tmp_path)):
        # What a chat template gets as variables reaches no native code.
        if not path.startswith(("/sdapi", "/internal", "/controlnet")) and "chat_template_kwargs" not in place:
            count += 1
            low, high = schema.get("minimum"), schema.get("maximum")
            assert low is not None, (path, place)
            assert high is not None, (path, place)
            assert -(2**63) <= low <= high < 2**63, (path, place)
    assert count > 80


@asynchronous
async def test_numbers_just_out_of_bounds_are_refused(tmp_path: Path) -> None:
    async with open_house(tmp_path, talker(tmp_path), painter(tmp_path)) as house:
        tried = 0
        for path, place, schema in integers(house.house):
            name = place.removeprefix(".")
            if "." in name or "[" in name or "minimum" not in schema:
                continue
            for value in (schema["minimum"] - 1, schema["maximum"] + 1):
                body = {**chat_body("hi"), "prompt": "p", "input": "p", "query": "q", "documents": ["d"], name: value}
                answer = await house.client.post(path, json=body)
                assert answer.status_code in (400, 422), (path, name, value, answer.text[:200])
                tried += 1
        assert tried > 100


@asynchronous
async def test_pictures_without_measure_are_refused(tmp_path: Path) -> None:
    extremes = [
        ("steps", 1001), ("steps", -1), ("n_iter", 101), ("n_iter", -1), ("batch_size", 65), ("batch_size", -1),
        ("width", 2**21), ("height", -8), ("width", 2**31), ("height", 2**64), ("steps", 1e300),
    ]  # fmt: skip
    async with open_house(tmp_path, painter(tmp_path)) as house:
        for route, more in (("txt2img", {}), ("img2img", {"init_images": [PICTURE]})):
            for field, value in extremes:
                body = picture_body("a boat", **more) | {field: value}
                answer = await house.client.post(f"/sdapi/v1/{route}", json=body)
                assert answer.status_code == 422, (route, field, value, answer.text[:200])


@asynchronous
async def test_a_template_of_the_caller_is_not_used(tmp_path: Path) -> None:
    template = "{% for x in range(10**9) %}{{ x }}{% endfor %}"
    async with open_house(tmp_path, talker(tmp_path)) as house:
        for path in (CHAT, "/v1/messages", "/apply-template"):
            body = chat_body("hi", chat_template=template, max_tokens=3)
            answer = await house.client.post(path, json=body)
            assert answer.status_code in (200, 400), answer.text
            assert "hi" in answer.text or answer.status_code == 400


HOSTILE_NAMES = [
    "/etc/passwd", "../../../../etc/passwd", "..\\..\\..\\windows\\win.ini", "file:///etc/passwd", "C:\\boot.ini",
    "http://127.0.0.1:1/x.gguf", "https://example.com/m", "//host/share", "\\\\host\\share", "~root/.ssh/id_rsa",
    "talker/../talker", "./talker", "talker.json/", "talker\x00.gguf", "talker%00", "talker%2e%2e%2f", "%2e%2e/%2e%2e",
    "\u2025/\u2025/etc/passwd", "..%c0%af..%c0%afetc/passwd", "/proc/self/environ", "/dev/random", "/dev/stdin", "|id",
    "$(id)", "`id`", "; id", "{{7*7}}", "talker\r\nx-evil: 1", "\x1b[2J", "a" * 1000, "\u202etalker", "CON", "/",
    "/etc/passw\u0064x", "/etc",
]  # fmt: skip


@asynchronous
async def test_a_name_of_a_model_is_no_path(tmp_path: Path) -> None:
    """Every name that is none is told the same, whether there is such a file or not."""
    assert len(HOSTILE_NAMES) >= 32
    asked = {
        CHAT: chat_body("hi"),
        "/v1/completions": {"prompt": "p"},
        "/v1/embeddings": {"input": "p"},
        "/v1/rerank": {"query": "q", "documents": ["d"]},
        "/v1/responses": {"input": "p"},
        "/v1/messages": {**chat_body("hi"), "max_tokens": 3},
        "/v1/messages/count_tokens": chat_body("hi"),
        "/v1/images/generations": {"prompt": "p"},
        "/completion": {"prompt": "p"},
        "/infill": {"input_prefix": "p"},
        "/tokenize": {"content": "p"},
        "/detokenize": {"tokens": [1]},
        "/apply-template": chat_body("hi"),
        "/hearth/v1/models/load": {},
        "/hearth/v1/models/unload": {},
    }
    async with open_house(tmp_path, text_model(tmp_path), painter(tmp_path)) as house:
        for path, body in asked.items():
            told = set()
            for name in HOSTILE_NAMES:
                answer = await house.client.post(path, json={**body, "model": name})
                assert answer.status_code in (400, 404), (path, name, answer.text[:200])
                assert not LEAK.search(answer.text)
                if answer.status_code == 404 and len(name) < 100 and name.isprintable() and "\\" not in name:
                    told.add(answer.text.replace(name, "NAME"))
            assert len(told) <= 2, (path, told)
        for name in HOSTILE_NAMES:
            for more in ({"override_settings": {"sd_model_checkpoint": name}}, {"override_settings": {"sd_vae": name}}):
                answer = await house.client.post("/sdapi/v1/txt2img", json=picture_body("p") | more)
                assert answer.status_code in (200, 404, 422), (name, answer.text[:200])
                assert not LEAK.search(answer.text)
            answer = await house.client.post("/sdapi/v1/options", json={"sd_model_checkpoint": name})
            assert answer.status_code in (404, 422), name


TRAVERSALS = [
    "../" * 6 + "etc/passwd", "..%2f" * 6 + "etc%2fpasswd", "%2e%2e/" * 6 + "etc/passwd", "..%5c" * 6 + "etc/passwd",
    "....//" * 6 + "etc/passwd", "%252e%252e%252f" * 6 + "etc/passwd", "/etc/passwd", "%2fetc%2fpasswd",
    "..%c0%af" * 6 + "etc/passwd", "..\\" * 6 + "etc\\passwd", "..;/" * 6 + "etc/passwd", "x%00/../../etc/passwd",
    "file:///etc/passwd", "../state/a1111-options.json", "..%2ftalker.json",
]  # fmt: skip
ROOTS = [
    "/", "/file=", "/file/", "/static/", "/docs/", "/v1/images/files/", "/v1/models/", "/v1/responses/", "/slots/",
    "/sdapi/v1/", "/internal/", "/hearth/v1/", "/images/", "/outputs/", "/web/",
]  # fmt: skip


def test_no_path_leads_to_a_file(tmp_path: Path) -> None:
    from urllib.parse import unquote

    house = built(tmp_path)
    for root in ROOTS:
        for end in TRAVERSALS:
            for path in {root + end, unquote(root + end, errors="replace")}:
                answer = asyncio.run(ask(house.asgi, http_scope(path, "GET")))
                text = answer.body.decode()
                assert answer.status in (400, 404, 405), (path, answer.status, text[:100])
                assert not LEAK.search(text.replace(path, ""))
                assert '"resident_mb"' not in text


@asynchronous
async def test_scripts_and_switches_of_the_original_are_not_there(tmp_path: Path) -> None:
    async with open_house(tmp_path, painter(tmp_path)) as house:
        for more in ({"script_name": "custom code"}, {"alwayson_scripts": {"custom code": {"args": ["import os"]}}}):
            answer = await house.client.post("/sdapi/v1/txt2img", json=picture_body("p") | more)
            assert answer.status_code == 422, answer.text
        for path in ("server-kill", "server-restart", "server-stop"):
            assert (await house.client.post(f"/sdapi/v1/{path}")).status_code == 404


@asynchronous
async def test_counts_come_before_decoding(tmp_path: Path) -> None:
    pictures = [f"data:image/png;base64,{PICTURE}"] * 1000
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in pictures]
    async with open_house(tmp_path, talker(tmp_path), painter(tmp_path)) as house:
        for path, body in (
            (CHAT, {"model": "talker", "messages": [{"role": "user", "content": parts}]}),
            ("/sdapi/v1/img2img", picture_body("p", init_images=pictures)),
        ):
            began = time.monotonic()
            answer = await house.client.post(path, json=body)
            assert answer.status_code in (400, 422), answer.text[:200]
            assert time.monotonic() - began < 1.0


@asynchronous
async def test_the_log_holds_no_secrets_no_prompts_and_no_control_codes(tmp_path: Path) -> None:
    target = io.StringIO()
    handler = logging.StreamHandler(target)
    handler.setFormatter(LineFormatter())
    handler.addFilter(lambda record: not record.name.startswith("httpx"))  # our own client in this test
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        async with open_house(tmp_path, talker(tmp_path), painter(tmp_path), keys=KEYS) as house:
            evil = "talker\r\n2026 level=error forged \x1b[31mred\x07"
            await house.client.post(CHAT, json=chat_body("my-secret-prompt"))
            await house.client.post(CHAT, json=chat_body("my-secret-prompt", "no-such-model"))
            await house.client.post(CHAT, json=chat_body("my-secret-prompt fault:abort"))
            await house.client.post(CHAT, json=chat_body("hi", evil))
            await house.client.post("/sdapi/v1/txt2img", json=picture_body("my-secret-prompt"))
            await house.client.post("/sdapi/v1/txt2img", json=picture_body("my-secret-prompt", evil))
            await house.client.post("/hearth/v1/models/load", json={"model": evil})
            await house.client.post("/hearth/v1/models/load?api_key=my-secret-query", json={"model": "talker"})
            async with house.another("sk-wrong-key-0123456789") as stranger:
                await stranger.get("/v1/models", headers={"user-agent": "x\x1b[31m", "x-api-key": "other-wrong-key"})
                await stranger.get("/v1/models", headers={"host": "evil.example"})
                await stranger.get("/none%1b%0d%0aforged")
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    log = target.getvalue()
    assert "fake fault: abort" in log, "the end of a worker is told with its last lines"
    for secret in (*KEYS, "sk-wrong-key", "other-wrong-key", "my-secret-query", "my-secret-prompt"):
        assert secret not in log
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", log)
    for line in log.splitlines():
        if "forged" in line:
            assert re.match(r"\d{4}-\d\d-\d\dT\S+ level=\w+ logger=", line), "a line of ours that quotes it"


@asynchronous
async def test_a_worker_knows_no_secrets_and_nobody_but_us_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_TOKEN", "OPENAI_API_KEY", "HEARTH_AUTH_KEYS", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD"):
        monkeypatch.setenv(name, "tell-nobody")
    before = children()
    async with open_house(tmp_path, talker(tmp_path), painter(tmp_path)) as house:
        for model in ("talker", "painter"):
            await house.client.post("/hearth/v1/models/load", json={"model": model})
        workers = children() - before
        assert len(workers) == 2
        for pid in workers:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
            assert b"HF_HUB_OFFLINE=1" in environment
            assert b"tell-nobody" not in environment
            assert b"anna" not in Path(f"/proc/{pid}/cmdline").read_bytes()
            assert not listening() & sockets(pid), "a worker is spoken to by its parent alone"
        assert listening() & sockets(os.getpid()), "the house itself is seen to listen"


def listening() -> set[str]:
    """Return the inodes of all TCP sockets of this machine that listen."""
    rows = [line.split() for name in ("tcp", "tcp6") for line in _rows(Path(f"/proc/net/{name}"))]
    return {row[9] for row in rows if row[3] == "0A"}


def _rows(table: Path) -> list[str]:
    return table.read_text().splitlines()[1:] if table.exists() else []


def sockets(pid: int) -> set[str]:
    """Return the inodes of the sockets that a process holds."""
    links = [str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.is_symlink()]
    return {link.removeprefix("socket:[").removesuffix("]") for link in links if link.startswith("socket:")}


@asynchronous
async def test_with_keys_nobody_sees_or_ends_what_is_anothers(tmp_path: Path) -> None:
    async with (
        open_house(tmp_path, talker(tmp_path, step_ms=5), keys=KEYS) as house,
        house.another(KEYS[0]) as anna,
        house.another(KEYS[1]) as bert,
    ):
        async with anna.stream("POST", CHAT, json=endless_body(text="my secret")) as stream:
            assert stream.status_code == 200
            (job,) = await _running(anna)
            assert await _running(bert) == []
            for path in ("/hearth/v1/jobs", "/slots", "/sdapi/v1/progress", "/internal/pending-tasks", "/props"):
                seen = await bert.get(path)
                assert "secret" not in seen.text
                assert job["id"] not in seen.text
            answer = await bert.post(f"/hearth/v1/jobs/{job['id']}/cancel", json={})
            assert answer.json() == {"cancelled": False}
            await bert.post("/sdapi/v1/interrupt")
            assert [one["state"] for one in await _running(anna)] == ["running"]
        stored = (await anna.post("/v1/responses", json={"model": "talker", "input": "hi"})).json()
        assert (await anna.get(f"/v1/responses/{stored['id']}")).status_code == 200
        for method, path in (("GET", ""), ("GET", "/input_items"), ("DELETE", "")):
            assert (await bert.request(method, f"/v1/responses/{stored['id']}{path}")).status_code == 404
        body = {"model": "talker", "input": "hi", "previous_response_id": stored["id"]}
        assert (await bert.post("/v1/responses", json=body)).status_code in (400, 404)


async def _running(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    jobs = (await client.get("/hearth/v1/jobs")).json()["jobs"]
    return [job for job in jobs if job["state"] == "running"]


@asynchronous
async def test_a_request_that_kills_its_workers_is_told_and_refused_and_others_are_served(tmp_path: Path) -> None:
    async with open_house(tmp_path, talker(tmp_path)) as house:
        answer = await house.client.post(CHAT, json=chat_body("fault:segv"))
        assert answer.status_code in (500, 503), answer.text
        again = await house.client.post(CHAT, json=chat_body("fault:segv"))
        assert again.status_code == 400, "the same request is not tried for some time"
        assert "refused" in again.json()["error"]["message"]
        assert (await still(house)).status_code == 200


async def still(house: OpenHouse) -> httpx.Response:
    """Ask something harmless."""
    return await house.client.post(CHAT, json=chat_body("still here"))
