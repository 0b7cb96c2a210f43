"""The routes over HTTP: statuses, headers, streams, URLs, forms, and clients that leave."""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import httpx
import pytest

from compat.openai.errors import reply
from server.core.errors import BadImage, InvalidValue, QueueFull, WorkerDied
from server.core.image import FileFormat, ImageFinished, ImageRequest, ImageStarted, Preview, StepDone
from server.core.jobs import CancelMode, JobState, Loading
from server.core.prompt import plain
from server.http.auth import ApiKey, Keyring, guard
from server.http.gate import Gate, GateRules
from tests.compat.openai.door import app, knocking, post
from tests.compat.openai.images.sent import card, form, hole, picture
from tests.support.asgi import Exchange, http_scope
from tests.support.fake_images import pictures, ready, tiny_png
from tests.support.fake_service import FakeService, text_card

T = TypeVar("T")
GENERATIONS, EDITS, VARIATIONS = "/v1/images/generations", "/v1/images/edits", "/v1/images/variations"
FORMS = [EDITS, VARIATIONS]


def service_with(*steps: Any) -> FakeService:
    service = FakeService(card(), text_card())
    if steps:
        service.script(*steps)
    return service


def generate(service: FakeService, settings: dict[str, Any] | None = None, **fields: Any) -> httpx.Response:
    return post(service, GENERATIONS, {"prompt": "a cat", **fields}, **(settings or {}))


def knock(service: FakeService, talk: Callable[[httpx.AsyncClient], Awaitable[T]], **settings: Any) -> T:
    async def run() -> T:
        async with knocking(service, **settings) as client:
            return await talk(client)

    return asyncio.run(run())


def send(service: FakeService, path: str, files: Any, settings: Any = None, **texts: str) -> httpx.Response:
    return knock(
        service, lambda client: client.post(path, files=files, data={"prompt": "a cat", **texts}), **(settings or {})
    )


def events_of(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Return names and bodies of a stream's events."""
    events = []
    for block in text.split("\n\n"):
        if block and not block.startswith(":"):
            name, data = block.split("\n")
            events.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return events


def test_pictures_of_a_prompt() -> None:
    service = service_with(*pictures(2))
    answered = generate(service, n=2, model="paint", size="640x512")
    assert answered.status_code == 200
    assert [set(one) for one in answered.json()["data"]] == [{"b64_json"}] * 2
    assert all(base64.b64decode(one["b64_json"]).startswith(b"\x89PNG") for one in answered.json()["data"])
    assert "x-hearth-ignored" not in answered.headers
    work = service.last
    assert isinstance(work, ImageRequest)
    assert (work.batches, work.prompt, work.size.width) == (2, plain("a cat"), 640)


def test_what_the_model_had_no_use_for_is_named_if_it_was_asked_for() -> None:
    end = ImageFinished(reason="complete", ignored=("sampler", "schedule", "embeddings"))
    answered = generate(service_with(ready(), end), sampler="heun", style="vivid")
    assert answered.headers["x-hearth-ignored"] == "style, sampler"
    assert "x-hearth-ignored" not in generate(service_with(ready(), end)).headers


def test_every_request_has_a_seed_of_its_own() -> None:
    service = service_with()
    seeds = set()
    for _ in range(4):
        service.script(*pictures(1))
        assert generate(service).status_code == 200
        assert isinstance(service.last, ImageRequest)
        seeds.add(service.last.seeds.first)
    assert len(seeds) > 1


def test_what_a_well_known_client_sends_of_hosted_models() -> None:
    service = service_with(*pictures(1, form=FileFormat(kind="webp")))
    sent = {"model": "gpt-image-1", "background": "auto", "output_format": "webp", "quality": "auto", "size": "auto"}
    answered = generate(service, **sent, moderation="auto", style="vivid", user="me", output_compression=90)
    assert answered.status_code == 200
    named = answered.headers["x-hearth-ignored"].split(", ")
    assert named == ["moderation", "style", "user"]
    assert (answered.json()["output_format"], answered.json()["background"]) == ("webp", "opaque")
    assert service.last.model == "paint"


@pytest.mark.parametrize(
    ("fields", "status", "code", "param"),
    [
        ({"prompt": ""}, 400, "invalid_value", "prompt"),
        ({"prompt": None}, 400, "invalid_value", "prompt"),
        ({"n": 0}, 400, "invalid_value", "n"),
        ({"n": 11}, 400, "invalid_value", "n"),
        ({"n": "1"}, 400, "invalid_value", "n"),
        ({"size": "big"}, 400, "invalid_value", "size"),
        ({"size": "16384x16384"}, 400, "invalid_value", "size"),
        ({"steps": 1001}, 400, "invalid_value", "steps"),
        ({"sampler": "../x"}, 400, "invalid_value", "sampler"),
        ({"partial_images": 4}, 400, "invalid_value", "partial_images"),
        ({"response_format": "gif"}, 400, "invalid_value", "response_format"),
        ({"output_format": "svg"}, 400, "unsupported_parameter", "output_format"),
        ({"output_compression": 101}, 400, "invalid_value", "output_compression"),
        ({"background": "transparent"}, 400, "unsupported_parameter", "background"),
        ({"background": "green"}, 400, "invalid_value", "background"),
        ({"stream": True, "response_format": "url"}, 400, "unsupported_parameter", "response_format"),
        ({"model": "nobody"}, 404, "model_not_found", "model"),
        ({"model": "tiny"}, 400, "invalid_value", "model"),
    ],
)
def test_mistakes_are_the_callers(fields: dict[str, Any], status: int, code: str, param: str) -> None:
    service = service_with()
    answered = generate(service, **fields)
    error = answered.json()["error"]
    assert (answered.status_code, error["code"], error["param"]) == (status, code, param)
    assert service.submissions == []


def test_strict_settings_refuse_what_has_no_effect() -> None:
    answered = generate(service_with(), {"strict": True}, style="vivid")
    assert (answered.status_code, answered.json()["error"]["param"]) == (400, "style")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("error", "status", "param"),
    [
        (BadImage("too thin", param="init_images"), 400, "image"),
        (InvalidValue.of("width", "too wide"), 400, "size"),
        (InvalidValue.of("sampler", "no such sampler"), 400, "sampler"),
        (QueueFull("full"), 429, None),
        (WorkerDied("died", model="paint"), 503, None),
    ],
)
def test_what_the_engine_refuses_has_this_apis_names(error: Any, status: int, param: str | None, stream: bool) -> None:
    answered = generate(service_with(error), stream=stream)
    assert (answered.status_code, answered.json()["error"]["param"]) == (status, param)


def test_a_stopped_job_hands_over_what_is_there() -> None:
    stopped = ImageFinished(reason="stopped")
    assert len(generate(service_with(ImageStarted(passes=3, steps=1), ready(), stopped), n=3).json()["data"]) == 1
    answered = generate(service_with(ImageStarted(passes=3, steps=1), stopped), n=3)
    assert (answered.status_code, answered.json()["error"]["code"]) == (499, "cancelled")


def test_a_stream_has_named_events() -> None:
    steps: list[Any] = [ImageStarted(passes=1, steps=4)]
    for step in (1, 2, 3, 4):
        steps += [StepDone(pass_index=0, step=step, steps=4), Preview(pass_index=0, png=tiny_png(step))]
    service = service_with(*steps, ready(), ImageFinished(reason="complete"))
    answered = generate(service, stream=True, partial_images=2, steps=4, style="vivid")
    assert answered.headers["content-type"].startswith("text/event-stream")
    assert answered.headers["x-hearth-ignored"] == "style"
    events = events_of(answered.text)
    assert events[-1][0] == "image_generation.completed"
    assert {name for name, _ in events[:-1]} <= {"image_generation.partial_image"}
    assert all(name == body["type"] for name, body in events)
    assert "[DONE]" not in answered.text


@pytest.mark.parametrize(
    ("end", "code"),
    [(WorkerDied("died"), "worker_died"), (ImageFinished(reason="stopped"), "cancelled")],
)
def test_trouble_in_mid_stream_is_its_last_event(end: Any, code: str) -> None:
    answered = generate(service_with(ImageStarted(passes=1, steps=4), end), stream=True)
    assert answered.status_code == 200
    ((name, body),) = events_of(answered.text)
    assert (name, body["error"]["code"]) == ("error", code)


def test_a_url_leads_to_the_picture_and_needs_no_key() -> None:
    async def run() -> None:
        service = service_with(*pictures(2))
        keys = guard(Keyring([ApiKey(name="ann", key="secret")]))
        transport = httpx.ASGITransport(app=app(service, guards=[keys]))
        async with httpx.AsyncClient(transport=transport, base_url="http://hearth:7860") as client:
            asked = {"prompt": "a cat", "n": 2, "response_format": "url"}
            assert (await client.post(GENERATIONS, json=asked)).status_code == 401
            known = {"Authorization": "Bearer secret"}
            answered = await client.post(GENERATIONS, json=asked, headers=known)
            assert service.submissions[0].owner == "ann"
            urls = [one["url"] for one in answered.json()["data"]]
            assert len(set(urls)) == 2
            for url in urls:
                assert url.startswith("http://hearth:7860/v1/images/files/")
                got = await client.get(url)
                assert (got.status_code, got.headers["content-type"]) == (200, "image/png")
                assert got.content.startswith(b"\x89PNG")
                assert "private" in got.headers["cache-control"]
            for wrong in (urls[0][:-1], urls[0] + "0", urls[0].partition("?")[0], urls[0].replace("expires=", "x=")):
                refused = await client.get(wrong)
                assert (refused.status_code, refused.json()["error"]["type"]) == (404, "invalid_request_error")

    asyncio.run(run())


@pytest.mark.parametrize("name", ["..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/etc/passwd", "x.png", "%00", "a" * 3000])
def test_files_are_no_paths(name: str) -> None:
    answered = knock(service_with(), lambda client: client.get(f"/v1/images/files/{name}?expires=9&signature=1"))
    assert answered.status_code == 404
    assert "root:" not in answered.text


@pytest.mark.parametrize("path", FORMS)
def test_a_form_makes_pictures(path: str) -> None:
    service = service_with(*pictures(2))
    image = picture(640, 480)
    answered = send(service, path, {"image": ("a.png", image)}, n="2", response_format="b64_json", user="me")
    assert answered.status_code == 200, answered.text
    assert len(answered.json()["data"]) == 2
    assert answered.headers["x-hearth-ignored"] == "user"
    work = service.last
    assert isinstance(work, ImageRequest) and work.init is not None
    assert (work.init.images, work.batches) == ((image,), 2)
    assert (work.size.width, work.size.height) == (576, 448)


def test_a_mask_says_by_its_transparency_what_is_made_anew() -> None:
    service = service_with(*pictures(1))
    image, mask = picture(64, 64), hole(64, 64)
    files = [("image[]", ("a.png", image)), ("mask", ("m.png", mask))]
    assert send(service, EDITS, files, size="64x64").status_code == 200
    work = service.last
    assert isinstance(work, ImageRequest) and work.init is not None and work.init.inpaint is not None
    assert (work.init.inpaint.mask, work.init.inpaint.invert) == (mask, True)


def test_an_edit_is_streamed_with_names_of_its_own() -> None:
    answered = send(service_with(*pictures(1)), EDITS, {"image": ("a.png", picture())}, stream="true")
    assert [name for name, _ in events_of(answered.text)] == ["image_edit.completed"]


@pytest.mark.parametrize("path", FORMS)
def test_bodies_that_are_no_forms(path: str) -> None:
    body, boundary = form([("image", picture())], prompt="x")
    kind = f"multipart/form-data; boundary={boundary}"
    cases: list[tuple[bytes, str, int]] = [
        (b'{"prompt": "x"}', "application/json", 415),
        (b"prompt=x", "application/x-www-form-urlencoded", 415),
        (body, "multipart/form-data", 415),
        (body, "", 415),
        (body, f"multipart/form-data; boundary={'y' * 20}", 400),
        (body[:-10], kind, 400),
        (b"", kind, 400),
        (b"x" * 4096, kind, 413),
    ]
    for content, header, status in cases:
        answered = knock(
            service_with(),
            lambda client, content=content, header=header: client.post(  # type: ignore[misc]
                path, content=content, headers={"content-type": header} if header else {}
            ),
            body_limit=2048,
        )
        assert (answered.status_code, answered.json()["error"]["type"]) == (status, "invalid_request_error"), header


def test_a_request_is_refused_before_a_model_is_loaded_for_it() -> None:
    service = service_with()
    for files, param in (
        ({"image": ("a.svg", b"<svg/>", "image/svg+xml")}, "image"),
        ({"image": ("a.png", picture()), "mask": ("m.png", hole(32, 32))}, "mask"),
        ({}, "image"),
    ):
        answered = send(service, EDITS, files or {"other": ("o", b"x")})
        assert (answered.status_code, answered.json()["error"]["param"]) == (400, param)
    assert service.submissions == []


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", [GENERATIONS, EDITS])
@pytest.mark.parametrize("begun", [False, True])
def test_a_client_that_leaves_cancels_its_job(path: str, stream: bool, begun: bool) -> None:
    async def leave() -> None:
        service, never = service_with(), asyncio.Event()
        steps: list[Any] = [Loading(model="paint")]
        if begun:
            steps += [ImageStarted(passes=1, steps=9), StepDone(pass_index=0, step=1, steps=9)]
        service.script(*steps, never)
        body, kind = json.dumps({"prompt": "x", "stream": stream}).encode(), "application/json"
        if path == EDITS:
            body, boundary = form([("image", picture())], prompt="x", stream=str(stream).lower())
            kind = f"multipart/form-data; boundary={boundary}"
        exchange = Exchange([body])
        scope = http_scope(path, "POST", {"content-type": kind})
        running = asyncio.create_task(app(service)(scope, exchange.receive, exchange.send))  # type: ignore[arg-type]
        while not service.submissions:
            await asyncio.sleep(0)
        for _ in range(20):
            await asyncio.sleep(0)
        (view,) = service.live()
        assert (view.kind, view.model) == ("image", "paint")
        assert (view.state, view.step) == ((JobState.RUNNING, 1) if begun else (JobState.RUNNING, 0))
        exchange.leave()
        await running
        assert service.submissions[0].cancels == [CancelMode.ABANDON]
        assert service.live() == ()
        never.set()
        await asyncio.sleep(0)

    asyncio.run(leave())


def gated(service: FakeService, talk: Callable[[httpx.AsyncClient], Awaitable[T]]) -> T:
    """Talk to the door behind the gate, with a key set."""

    async def run() -> T:
        keys = guard(Keyring([ApiKey(name="ann", key="secret")]))
        rules = GateRules(body_limits={"/v1": 100_000}, hosts=("hearth",), keyed=True)
        gate = Gate(app(service, guards=[keys]), reply_to=lambda _, error: reply(error), rules=rules)  # type: ignore[arg-type]
        transport = httpx.ASGITransport(app=gate)
        async with httpx.AsyncClient(transport=transport, base_url="http://hearth") as client:
            return await talk(client)

    return asyncio.run(run())


@pytest.mark.parametrize("path", [GENERATIONS, EDITS, VARIATIONS])
def test_options_need_no_key(path: str) -> None:
    async def talk(client: httpx.AsyncClient) -> None:
        assert (await client.options(path)).is_success
        preflight = {
            "Origin": "http://localhost:5000",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type",
        }
        answered = await client.options(path, headers=preflight)
        assert answered.is_success
        assert answered.headers["access-control-allow-origin"] == "http://localhost:5000"
        assert "authorization" in answered.headers["access-control-allow-headers"]

    gated(service_with(), talk)


def test_forms_and_files_pass_the_gate() -> None:
    service = service_with(*pictures(1))

    async def talk(client: httpx.AsyncClient) -> None:
        client.headers["Authorization"] = "Bearer secret"
        form_ = {"prompt": "x", "response_format": "url"}
        answered = await client.post(EDITS, data=form_, files={"image": ("a.png", picture())})
        assert answered.status_code == 200, answered.text
        del client.headers["Authorization"]
        got = await client.get(answered.json()["data"][0]["url"])
        assert got.headers.get_list("x-content-type-options") == ["nosniff"]
        assert "default-src 'none'" in got.headers["content-security-policy"]
        assert (got.status_code, got.headers["content-type"]) == (200, "image/png")
        too_much = await client.post(EDITS, data=form_, files={"image": ("a.png", bytes(200_000))})
        assert too_much.status_code == 413

    gated(service, talk)


def test_the_description_tells_of_the_forms() -> None:
    from litestar import Litestar

    from compat.openai import OpenAiSettings, dialect

    described = Litestar([dialect(FakeService(), OpenAiSettings()).router], logging_config=None).openapi_schema
    told = json.loads(json.dumps(described.to_schema()))["paths"]
    for path, names in ((EDITS, {"image", "mask", "prompt"}), (VARIATIONS, {"image", "n"})):
        schema = told[path]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
        assert names <= set(schema["properties"])
        assert schema["required"] == ["image"]
    assert "requestBody" in told[GENERATIONS]["post"]


def test_comments_come_while_the_model_is_loaded() -> None:
    async def run() -> None:
        service, loaded = service_with(), asyncio.Event()
        service.script(Loading(model="paint"), loaded, *pictures(1))
        exchange = Exchange([json.dumps({"prompt": "x", "stream": True}).encode()])
        scope = http_scope(GENERATIONS, "POST")
        running = asyncio.create_task(app(service, patience_s=0)(scope, exchange.receive, exchange.send))  # type: ignore[arg-type]
        while len(exchange.sent) < 2:
            exchange.something_sent.clear()
            await exchange.something_sent.wait()
        assert exchange.body.startswith(b": ")
        loaded.set()
        await running
        assert [name for name, _ in events_of(exchange.body.decode())] == ["image_generation.completed"]

    asyncio.run(run())
