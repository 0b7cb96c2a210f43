import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from litestar import Litestar

from compat import a1111
from compat.a1111.routes import NOT_OFFERED, REFRESHING
from server.core.errors import LoadFailed, QueueFull, WorkerDied
from server.core.image import ImageFinished, ImageRequest, ImageStarted, Preview, StepDone
from server.core.jobs import CancelMode
from server.core.models import ModelCard, ModelKind
from server.http.png import read_text
from tests.compat.a1111.asked import part
from tests.support.asgi import Exchange, ask, http_scope
from tests.support.fake_images import pictures, ready
from tests.support.fake_service import FakeService, image_card, resident, text_card

API = "/sdapi/v1"


class House:
    """An app with this door alone, over a service without workers."""

    def __init__(self, *cards: Any, **settings: Any) -> None:
        self.service = FakeService(*(cards or (image_card("paint", sha256="ab" * 32), image_card("other"))))
        door = a1111.dialect(self.service, a1111.A1111Settings(**settings))
        self.app = Litestar([door.router], logging_config=None)

    async def ask(self, path: str, body: Any = None, *, method: str | None = None, raw: bytes = b"") -> Exchange:
        path, _, query = path.partition("?")
        scope = http_scope(path, method or ("GET" if body is None and not raw else "POST"))
        scope["query_string"] = query.encode()
        return await ask(self.app, scope, [raw or (b"" if body is None else json.dumps(body).encode())])

    async def json(self, path: str, body: Any = None, **how: Any) -> Any:
        exchange = await self.ask(path, body, **how)
        assert exchange.status == 200, exchange.body
        return json.loads(exchange.body)

    async def make(self, count: int = 1, **fields: Any) -> Any:
        self.service.script(*pictures(count))
        return await self.json(f"{API}/txt2img", fields)


def run(test: Callable[[House], Awaitable[None]], *cards: Any, **settings: Any) -> None:
    async def inside() -> None:
        await test(House(*cards, **settings))

    asyncio.run(inside())


def test_a_picture() -> None:
    async def test(house: House) -> None:
        answer = await house.make(2, prompt="a cat", n_iter=2, seed=5, steps="2", force_task_id="task(1)")
        assert list(answer) == ["images", "parameters", "info"]
        info = json.loads(answer["info"])
        assert info["all_seeds"] == [5, 6]
        for picture, text in zip(answer["images"], info["infotexts"], strict=True):
            assert read_text(base64.b64decode(picture))["parameters"] == text
        assert answer["parameters"]["steps"] == 2
        work = house.service.last
        assert isinstance(work, ImageRequest)
        assert (work.model, work.batches, work.denoise.steps) == ("paint", 2, 2)
        assert house.service.submissions[0].tag == "task(1)"

    run(test)


def test_a_picture_carries_a_hash_that_became_known_while_it_was_made() -> None:
    async def test(house: House) -> None:
        service = house.service

        def known(card: ModelCard) -> None:
            service.shelf.all = (msgspec.structs.replace(card, sha256="cd" * 32),)

        service.loop.on_fingerprint = known
        info = json.loads((await house.make(prompt="a cat"))["info"])
        assert info["sd_model_hash"] == "cdcdcdcdcd"
        assert "Model hash: cdcdcdcdcd," in info["infotexts"][0]

    run(test, image_card("paint"))


def test_what_has_no_effect_is_named_in_a_header_and_once_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")

    async def test(house: House) -> None:
        body = {"alwayson_scripts": {"ADetailer": {}, "bad\r\nname": {}}, "sampler_name": "nope", "url": "x"}
        for _ in range(2):
            house.service.script(*pictures())
            exchange = await house.ask(f"{API}/txt2img", body)
            assert exchange.status == 200
            assert exchange.headers["x-hearth-ignored"] == "alwayson_scripts.ADetailer, sampler_name"
        assert "x-hearth-ignored" not in (await house.ask(f"{API}/options")).headers

    run(test)
    assert caplog.text.count("ADetailer") == 1


def test_the_model_of_one_request() -> None:
    async def test(house: House) -> None:
        await house.make(override_settings={"sd_model_checkpoint": "other.safetensors"})
        assert house.service.last.model == "other"
        await house.make()
        assert house.service.last.model == "paint"
        await house.make(override_settings={"sd_model_checkpoint": "nope"})
        assert house.service.last.model == "paint"
        assert house.service.loop.loads == []

    run(test)


def test_setting_the_model() -> None:
    async def test(house: House) -> None:
        before = await house.json(f"{API}/options")
        assert before["sd_model_checkpoint"] == "paint.safetensors [ababababab]"
        assert before["sd_checkpoint_hash"] == "ab" * 32
        assert await house.json(f"{API}/options", {"sd_model_checkpoint": "other"}) is None
        assert house.service.loop.loads == ["other"]
        assert (await house.json(f"{API}/options"))["sd_model_checkpoint"] == "other.safetensors"
        await house.make()
        assert house.service.last.model == "other"

    run(test)


def test_posting_all_options_back_loads_nothing_and_changes_nothing() -> None:
    async def test(house: House) -> None:
        before = await house.json(f"{API}/options")
        assert await house.json(f"{API}/options", before) is None
        assert await house.json(f"{API}/options") == before
        assert house.service.loop.loads == []
        changed = before | {"send_seed": False, "mine": [1]}
        await house.json(f"{API}/options", changed)
        assert await house.json(f"{API}/options") == changed

    run(test)


def test_an_unknown_model_changes_nothing() -> None:
    async def test(house: House) -> None:
        exchange = await house.ask(f"{API}/options", {"send_seed": False, "sd_model_checkpoint": "nope"})
        assert exchange.status == 404
        assert json.loads(exchange.body) == {
            "error": "RuntimeError",
            "detail": "",
            "body": "",
            "errors": "model 'nope' not found",
        }
        assert (await house.json(f"{API}/options"))["send_seed"] is True
        assert await house.json(f"{API}/options", {"sd_model_checkpoint": None}) is None

    run(test)


def test_a_model_that_does_not_load_is_not_taken() -> None:
    async def test(house: House) -> None:
        async def fail(_: object) -> None:
            raise LoadFailed("the file is damaged", retry_after=5)

        house.service.loop.load = fail  # type: ignore[method-assign]
        exchange = await house.ask(f"{API}/options", {"sd_model_checkpoint": "other"})
        assert exchange.status == 503
        assert (await house.json(f"{API}/options"))["sd_model_checkpoint"].startswith("paint")

    run(test)


def test_options_act_and_outlive_the_process(tmp_path: Path) -> None:
    file = str(tmp_path / "options.json")

    async def first(house: House) -> None:
        await house.json(f"{API}/options", {"CLIP_stop_at_last_layers": 2.0, "sd_model_checkpoint": "other"})

    async def second(house: House) -> None:
        await house.make()
        work = house.service.last
        assert isinstance(work, ImageRequest)
        assert (work.model, work.text.clip_skip) == ("other", 2)

    run(first, options_file=file)
    run(second, options_file=file)


@pytest.mark.parametrize("script", [{}, {"script_name": "prompt matrix"}])
def test_settings_of_a_request_stay_only_where_it_says_so(script: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "options.json"
    settings = {"CLIP_stop_at_last_layers": 2, "sd_model_checkpoint": "other", "eta_noise_seed_delta": None, "mine": 1}

    async def test(house: House) -> None:
        before = await house.json(f"{API}/options")
        await house.make(override_settings=settings, **script)
        assert await house.json(f"{API}/options") == before
        refused = {"steps": 10_000, "override_settings": settings, "override_settings_restore_afterwards": False}
        assert (await house.ask(f"{API}/txt2img", refused | script)).status == 422
        assert await house.json(f"{API}/options") == before, "nothing was made"
        await house.make(override_settings=settings, override_settings_restore_afterwards=False, **script)
        stays = {"CLIP_stop_at_last_layers": 2.0, "sd_model_checkpoint": "other.safetensors", "sd_checkpoint_hash": ""}
        assert await house.json(f"{API}/options") == before | stays
        await house.make()
        work = house.service.last
        assert isinstance(work, ImageRequest)
        assert (work.model, work.text.clip_skip) == ("other", 2)
        unknown = {"sd_model_checkpoint": "nope"}
        await house.make(override_settings=unknown, override_settings_restore_afterwards=False)
        assert (await house.json(f"{API}/options"))["sd_model_checkpoint"] == "other.safetensors"
        assert not file.exists(), "only POST options writes the file"

    run(test, options_file=str(file))


def test_a_vanished_choice_falls_back_to_the_configured_then_the_first_usable_model() -> None:
    async def test(house: House) -> None:
        await house.make(override_settings={})
        assert house.service.last.model == "other"

    run(test, default_model="other")
    run(test, image_card("broken", broken="cut off"), image_card("other"))


def test_without_any_checkpoint() -> None:
    async def test(house: House) -> None:
        exchange = await house.ask(f"{API}/txt2img", {})
        assert exchange.status == 404
        assert json.loads(exchange.body)["error"] == "FileNotFoundError"
        assert (await house.json(f"{API}/options"))["sd_model_checkpoint"] is None
        assert await house.json(f"{API}/sd-models") == []

    run(test, text_card())


@pytest.mark.parametrize(
    ("steps", "status"),
    [
        ((WorkerDied("gone"),), 503),
        ((ImageStarted(passes=1, steps=2), WorkerDied("gone")), 503),
        ((LoadFailed("broken"),), 503),
    ],
)
def test_a_job_that_fails(steps: tuple[Any, ...], status: int) -> None:
    async def test(house: House) -> None:
        house.service.script(*steps)
        exchange = await house.ask(f"{API}/txt2img", {})
        assert exchange.status == status
        assert set(json.loads(exchange.body)) == {"error", "detail", "body", "errors"}

    run(test)


def test_a_full_queue() -> None:
    async def test(house: House) -> None:
        def full(*_: object, **__: object) -> None:
            raise QueueFull("full", retry_after=5)

        house.service.submit = full  # type: ignore[method-assign,assignment]
        exchange = await house.ask(f"{API}/txt2img", {})
        assert (exchange.status, exchange.headers["retry-after"]) == (429, "5")

    run(test)


def test_progress_interrupt_and_what_is_there_already() -> None:
    async def test(house: House) -> None:
        gate = asyncio.Event()
        running = [StepDone(pass_index=1, step=2, steps=4), Preview(pass_index=1, png=b"png")]
        house.service.script(ImageStarted(passes=2, steps=4), ready(0), *running, gate)
        making = asyncio.ensure_future(house.json(f"{API}/txt2img", {"n_iter": 2, "force_task_id": "t"}))
        while not (house.service.live() and house.service.live()[0].preview):
            await asyncio.sleep(0)
        told = await house.json(f"{API}/progress?skip_current_image=false")
        assert told["progress"] == pytest.approx(0.01 + 1 / 2 + 1 / 2 * 1 / 4)
        assert told["state"]["job"] == "Batch 2 out of 2"
        assert told["current_image"] == base64.b64encode(b"png").decode()
        assert (await house.json(f"{API}/progress?skip_current_image=true"))["current_image"] is None
        assert (await house.json("/internal/progress", {"id_task": "t"}))["active"] is True

        assert await house.json(f"{API}/skip", method="POST") is None
        assert (await house.json(f"{API}/progress"))["state"]["skipped"] is True
        assert await house.json(f"{API}/interrupt", method="POST") == {}
        answer = await making
        assert len(answer["images"]) == 1
        assert house.service.submissions[0].cancels == [CancelMode.SKIP, CancelMode.STOP]
        idle = await house.json(f"{API}/progress")
        assert (idle["progress"], idle["state"]["job_count"]) == (0.0, 0)
        assert (await house.json("/internal/progress", {"id_task": "t"}))["completed"] is True

    run(test)


def test_an_interrupt_when_nothing_runs_does_not_touch_the_next_job() -> None:
    async def test(house: House) -> None:
        await house.json(f"{API}/interrupt", method="POST")
        await house.json(f"{API}/skip", method="POST")
        assert len((await house.make())["images"]) == 1
        assert house.service.submissions[0].cancels == []

    run(test)


def test_a_client_that_leaves_abandons_its_job() -> None:
    async def test(house: House) -> None:
        house.service.script(ImageStarted(passes=1, steps=4), asyncio.Event())
        exchange = Exchange([b"{}"])
        asking = asyncio.ensure_future(
            house.app(http_scope(f"{API}/txt2img", "POST"), exchange.receive, exchange.send)  # type: ignore[arg-type]
        )
        while not house.service.live():
            await asyncio.sleep(0)
        exchange.leave()
        await asking
        assert house.service.submissions[0].cancels == [CancelMode.ABANDON]
        assert house.service.live() == ()

    run(test)


def test_an_interrupted_job_without_pictures_answers_200() -> None:
    async def test(house: House) -> None:
        house.service.script(ImageStarted(passes=1, steps=1), ImageFinished(reason="stopped"))
        answer = await house.json(f"{API}/txt2img", {"seed": 3})
        assert (answer["images"], json.loads(answer["info"])["all_seeds"]) == ([], [3])

    run(test)


def test_png_info_reads_what_was_made() -> None:
    async def test(house: House) -> None:
        answer = await house.make(prompt="a cat", seed=5)
        told = await house.json(f"{API}/png-info", {"image": answer["images"][0]})
        assert told["info"] == json.loads(answer["info"])["infotexts"][0]
        assert (told["parameters"]["Prompt"], told["parameters"]["Seed"], told["items"]) == ("a cat", "5", {})
        assert (await house.ask(f"{API}/png-info", {"image": ""})).status == 422
        assert (await house.ask(f"{API}/png-info", {})).status == 422

    run(test)


@pytest.mark.parametrize("path", [f"{API}{path}" for path in NOT_OFFERED])
def test_routes_that_are_not_offered_say_so(path: str) -> None:
    async def test(house: House) -> None:
        for raw in (b'{"init_images": []}', b'"', b"\xff"):
            exchange = await house.ask(path, raw=raw)
            assert exchange.status == 501
            assert "not offered" in json.loads(exchange.body)["detail"]

    run(test)


@pytest.mark.parametrize("path", ["/nosuch", "/preprocess"])
def test_other_routes_are_not_there(path: str) -> None:
    async def test(house: House) -> None:
        assert (await house.ask(f"{API}{path}", {})).status == 404

    run(test)


@pytest.mark.parametrize("body", [b"", b"{}", b'""', b"\xff"])
@pytest.mark.parametrize("path", ["/interrupt", "/skip", "/unload-checkpoint", "/reload-checkpoint", *REFRESHING])
def test_routes_without_a_body_take_any(path: str, body: bytes) -> None:
    async def test(house: House) -> None:
        exchange = await house.ask(f"{API}{path}", method="POST", raw=body)
        assert exchange.status == 200
        assert exchange.body in (b"{}", b"null")

    run(test)


def test_freeing_and_loading() -> None:
    async def test(house: House) -> None:
        cards = house.service.shelf.all
        house.service.loop.views = [resident(card) for card in (*cards, text_card())]
        await house.json(f"{API}/unload-checkpoint", method="POST")
        assert house.service.loop.unloads == ["paint", "other"]
        await house.json(f"{API}/reload-checkpoint", method="POST")
        assert house.service.loop.loads == ["paint"]
        await house.json(f"{API}/refresh-loras", method="POST")
        assert house.service.shelf.scans == 1

    run(test)


def test_memory_names_every_loaded_model() -> None:
    async def test(house: House) -> None:
        house.service.loop.views = [resident(image_card("paint")), resident(text_card("tiny"), "loading")]
        told = await house.json(f"{API}/memory")
        assert [(one["model"], one["kind"], one["state"]) for one in told["models"]] == [
            ("paint", "checkpoint", "ready"),
            ("tiny", "text", "loading"),
        ]
        assert told["models"][0]["held"] == {"ram": 2_000_000}
        assert told["ram"]["used"] == 3_000_000

    run(test)


def test_vae_files_by_both_names() -> None:
    async def test(house: House) -> None:
        rows = await house.json(f"{API}/sd-vae")
        assert [row["model_name"] for row in rows] == ["soft.safetensors"]
        assert await house.json(f"{API}/sd-modules") == rows

    run(test, image_card(), part("soft.safetensors", ModelKind.VAE))


def test_a_checkpoint_in_use_is_not_freed() -> None:
    async def test(house: House) -> None:
        busy = msgspec.structs.replace(resident(house.service.shelf.all[0]), jobs=1)
        house.service.loop.views = [busy]
        assert (await house.ask(f"{API}/unload-checkpoint", method="POST")).status == 503
        assert house.service.loop.unloads == []

    run(test)


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"", 422),
        (b"[1]", 422),
        (b'{"a":', 422),
        (b"\xff", 422),
        (b"[" * 100_000, 422),
        (b'{"steps": "many"}', 422),
        (b'{"prompt": "\\ud800"}', 422),
        (b'{"prompt": null}', 422),
        (b'{"script_name": "x"}', 422),
        (b'{"seed": 99999999999999999999999}', 422),
    ],
)
def test_mistakes_are_never_the_servers(raw: bytes, status: int) -> None:
    async def test(house: House) -> None:
        exchange = await house.ask(f"{API}/txt2img", raw=raw, method="POST")
        assert exchange.status == status
        assert json.loads(exchange.body)["detail"]
        if raw:
            assert (await house.ask(f"{API}/options", raw=raw, method="POST")).status in (200, 404, 422)

    run(test)


def test_a_lora_and_its_hash(tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    file.write_bytes(b"\0" * 8 + b"tensors")
    lora = part("x.safetensors", files=(str(file),), metadata={"ss_tag_frequency": '{"a": 1}'})

    async def test(house: House) -> None:
        answer = await house.make(prompt="a <lora:x:0.5>")
        assert 'Lora hashes: "x: ' in json.loads(answer["info"])["infotexts"][0]
        (row,) = await house.json(f"{API}/loras")
        assert (row["name"], row["alias"], row["metadata"]) == ("x", "x", {"ss_tag_frequency": {"a": 1}})

    run(test, image_card("paint"), lora)


def test_embeddings_that_fit_are_loaded() -> None:
    facts = {"embedding.width": "768", "embedding.vectors": "3"}
    fitting = part("b.pt", ModelKind.EMBEDDING, metadata=facts)
    unknown = part("a.pt", ModelKind.EMBEDDING)

    async def test(house: House) -> None:
        told = await house.json(f"{API}/embeddings")
        assert list(told["loaded"]) == ["a", "b"]
        assert (told["loaded"]["b"]["shape"], told["loaded"]["b"]["vectors"]) == (768, 3)

    run(test, image_card("paint"), fitting, unknown)


def test_the_dialect_answers_its_paths() -> None:
    door = a1111.dialect(FakeService(), a1111.A1111Settings())
    assert all(door.answers(path) for path in ("/sdapi/v1/x", "/internal/ping", "/controlnet/version"))
    assert not door.answers("/v1/models")


def test_what_the_model_has_no_use_for_is_named_in_the_header() -> None:
    async def test(house: House) -> None:
        *before, last = pictures()
        assert isinstance(last, ImageFinished)
        told = ("sampler", "schedule", "clip_skip", "negative_prompt")
        house.service.script(*before, msgspec.structs.replace(last, ignored=told))
        exchange = await house.ask(f"{API}/txt2img", {"distilled_cfg_scale": 3.5, "cfg_scale": 1})
        named = "sampler_name, scheduler, options.CLIP_stop_at_last_layers, negative_prompt"
        assert exchange.headers["x-hearth-ignored"] == named
        work = house.service.last
        assert isinstance(work, ImageRequest)
        assert (work.denoise.distilled_scale, work.denoise.cfg_scale) == (3.5, 1.0)

    run(test)
