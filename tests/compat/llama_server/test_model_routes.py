"""`/lora-adapters`, `/models/load` and `/models/unload` over HTTP."""

import asyncio
from typing import Any

import msgspec
import pytest

from compat.llama_server.model_routes import Loads
from server.core.errors import LoadFailed
from server.core.models import AdapterFacts, ModelId
from server.core.text import AdapterScale, CompletionRequest
from server.http.auth import Keyring, guard
from tests.compat.llama_server.door import app, get, post
from tests.support.aio import asynchronous
from tests.support.asgi import ask, http_scope
from tests.support.fake_service import FakeService, resident, text_card

TINY = ModelId("tiny")


def service() -> FakeService:
    made = FakeService(text_card("tiny"), text_card("other"))
    made.loop.listed[TINY] = (AdapterFacts(name="a"), AdapterFacts(name="b", scale=0.5))
    return made


def test_adapters_are_those_of_the_model_that_is_named() -> None:
    here = service()
    assert get(here, "/lora-adapters?model=tiny").json() == [
        {"id": 0, "path": "a", "scale": 0.0},
        {"id": 1, "path": "b", "scale": 0.5},
    ]
    assert get(here, "/lora-adapters?model=other").json() == []
    assert get(here, "/lora-adapters?model=nobody").status_code == 404


def test_scales_that_are_set_hold_for_requests_that_name_none() -> None:
    here = service()
    assert post(here, "/lora-adapters?model=tiny", [{"id": 0, "scale": 0.2}]).json() == {"success": True}
    assert [item["scale"] for item in get(here, "/lora-adapters?model=tiny").json()] == [0.2, 0.0]
    post(here, "/completion", {"prompt": "x", "model": "tiny"})
    assert isinstance(here.last, CompletionRequest)
    assert here.last.adapters == (AdapterScale(adapter="a", scale=0.2),)
    post(here, "/completion", {"prompt": "x", "model": "tiny", "lora": [{"id": 1, "scale": 1}]})
    assert here.last.adapters == (AdapterScale(adapter=1, scale=1.0, param="lora[0].id"),)
    post(here, "/completion", {"prompt": "x", "model": "other"})
    assert here.last.adapters is None


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ([{"id": 7, "scale": 1}], "[0].id"),
        ([{"id": 0}, {"id": "x"}], "[1].id"),
        ([{"scale": 1}], None),
        ({"id": 0}, None),
        ("a", None),
    ],
)
def test_wrong_lists_are_refused_and_change_nothing(body: Any, param: str | None) -> None:
    here = service()
    answered = post(here, "/lora-adapters?model=tiny", body)
    assert answered.status_code == 400 and answered.json()["error"]["message"]
    assert param is None or answered.json()["error"]["param"] == param
    assert [item["scale"] for item in get(here, "/lora-adapters?model=tiny").json()] == [0.0, 0.5]


def test_models_are_loaded_and_unloaded() -> None:
    here = service()
    assert post(here, "/models/load", {"model": "tiny"}).json() == {"success": True}
    assert here.loop.loads == [TINY]
    assert post(here, "/models/unload", {"model": "tiny"}).json() == {"success": True}
    assert here.loop.unloads == [TINY]
    assert post(here, "/models/load", {"model": "nobody"}).status_code == 404
    assert post(here, "/models/load", {}).status_code == 400


def test_a_model_at_work_is_not_unloaded() -> None:
    here = service()
    here.loop.views = [msgspec.structs.replace(resident(text_card("tiny")), jobs=1)]
    answered = post(here, "/models/unload", {"model": "tiny"})
    assert answered.status_code == 503 and answered.headers["retry-after"]


class SlowService:
    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.loaded: list[str] = []

    async def load(self, model: str) -> None:
        await self.gate.wait()
        if model == "bad":
            raise LoadFailed("no memory", model=model)
        self.loaded.append(model)


@asynchronous
async def test_a_load_that_takes_long_goes_on_without_its_caller() -> None:
    slow = SlowService()
    loads = Loads(slow, 0.0)  # type: ignore[arg-type]
    await loads.begin("good")
    await loads.begin("bad")
    assert slow.loaded == []
    slow.gate.set()
    while loads._tasks:
        await asyncio.sleep(0)
    assert slow.loaded == ["good"]


@asynchronous
async def test_a_load_that_fails_in_time_is_told() -> None:
    slow = SlowService()
    slow.gate.set()
    with pytest.raises(LoadFailed):
        await Loads(slow, 5.0).begin("bad")  # type: ignore[arg-type]


@asynchronous
async def test_others_change_nothing_without_a_key() -> None:
    here = app(service(), guards=[guard(Keyring(()), exposed=True)])
    for path, body in (("/lora-adapters", b"[]"), ("/models/load", b"{}"), ("/models/unload", b"{}")):
        scope = http_scope(path, "POST", {"content-type": "application/json"}, client=("203.0.113.9", 1))
        assert (await ask(here, scope, (body,))).status == 403, path
