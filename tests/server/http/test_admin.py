import asyncio
import time
from typing import Any, cast

import msgspec
import pytest
from litestar import Litestar

from server.core.errors import ModelBusy, UnknownModel
from server.core.jobs import CancelMode, JobId, JobState
from server.core.memory import RAM, Footprint
from server.core.models import ModelCard, ModelId, ModelKind, TextFacts
from server.http import admin
from server.http.auth import ApiKey, Keyring, guard
from server.service.service import JobView, MemoryView, ResidentView, Service
from tests.support.asgi import Exchange, ask, http_scope

CARDS = (
    ModelCard(
        id=ModelId("chat"),
        name="sub/chat.gguf",
        kind=ModelKind.TEXT,
        files=("/secret/place/sub/chat.gguf",),
        aliases=("talk",),
        architecture="llama",
        size=1000,
        text=TextFacts(context_length=512),
    ),
    ModelCard(
        id=ModelId("bad"), name="bad.gguf", kind=ModelKind.TEXT, files=("/secret/bad.gguf",), broken="cut off at byte 7"
    ),
)


class Hall:
    """The verbs that the side door uses; notes what was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.loaded: set[str] = set()

    def models(self, *kinds: ModelKind) -> tuple[ModelCard, ...]:
        return CARDS

    def memory(self) -> MemoryView:
        residents = tuple(
            ResidentView(
                model=ModelId(model),
                kind=ModelKind.TEXT,
                state="ready",
                slots=8,
                jobs=0,
                pid=77,
                footprint=Footprint(resident={RAM: 900}, working={RAM: 50}),
                last_used=time.monotonic() - 5,
            )
            for model in self.loaded
        )
        return MemoryView(limits={RAM: 4000}, used={RAM: 900}, ram_total=8000, ram_free=3000, residents=residents)

    def jobs(self) -> tuple[JobView, ...]:
        now = time.monotonic()

        def view(name: str, owner: str, state: JobState) -> JobView:
            ended = now if state is JobState.DONE else None
            return JobView(
                id=JobId(name),
                kind="text",
                model="chat",
                state=state,
                owner=owner,
                arrived=now - 9,
                started=now - 4,
                ended=ended,
            )

        return (
            view("j1", "ann", JobState.RUNNING),
            view("j2", "bob", JobState.RUNNING),
            view("j0", "ann", JobState.DONE),
        )

    def cancel(self, job: JobId, mode: CancelMode) -> bool:
        self.asked.append(("cancel", job, mode))
        return True

    async def load(self, model: str) -> None:
        self.asked.append(("load", model))
        if model != "chat":
            raise UnknownModel.named(model, ["chat"])
        self.loaded.add(model)

    async def unload(self, model: str) -> None:
        self.asked.append(("unload", model))
        if model not in self.loaded:
            raise ModelBusy("busy")
        self.loaded.discard(model)

    async def rescan(self) -> None:
        self.asked.append(("rescan",))


KEYS = (ApiKey(name="ann", key="k-ann"), ApiKey(name="bob", key="k-bob"))


class Door:
    def __init__(self, *, keyed: bool = False, open_to_all: bool = False) -> None:
        self.hall = Hall()
        self.app = Litestar(
            [admin.router(cast(Service, self.hall), open_to_all=open_to_all)],
            guards=[guard(Keyring(KEYS if keyed else ()))],
            logging_config=None,
            openapi_config=None,
        )

    def exchange(self, method: str, path: str, data: Any = None, client: str = "127.0.0.1", **headers: str) -> Exchange:
        body = b"" if data is None else data if isinstance(data, bytes) else msgspec.json.encode(data)
        scope = http_scope("/hearth/v1" + path, method, headers, client=(client, 5))
        return asyncio.run(ask(self.app, scope, [body]))

    def call(self, method: str, path: str, data: Any = None, **more: str) -> Any:
        done = self.exchange(method, path, data, **more)
        assert done.status == 200, done.body
        return msgspec.json.decode(done.body)


def test_all_models_are_listed_with_their_state() -> None:
    door = Door()
    door.hall.loaded.add("chat")
    good, bad = door.call("GET", "/models")["models"]
    assert (good["id"], good["name"], good["broken"], good["aliases"]) == ("chat", "sub/chat.gguf", None, ["talk"])
    assert good["text"]["context_length"] == 512
    assert good["loaded"]["state"] == "ready"
    assert good["loaded"]["resident"] == {"ram": 900}
    assert 5 <= good["loaded"]["idle_s"] < 60
    assert (bad["broken"], bad["loaded"]) == ("cut off at byte 7", None)


def test_no_path_of_the_machine_is_told() -> None:
    door = Door()
    for path in ("/models", "/jobs", "/memory"):
        assert b"secret" not in door.exchange("GET", path).body


def test_load_and_unload_answer_with_the_new_state() -> None:
    door = Door()
    assert door.call("POST", "/models/load", {"model": "chat"})["models"][0]["loaded"]["state"] == "ready"
    assert door.call("POST", "/models/unload", {"model": "chat"})["models"][0]["loaded"] is None
    assert len(door.call("POST", "/models/rescan")["models"]) == 2
    assert door.hall.asked == [("load", "chat"), ("unload", "chat"), ("rescan",)]


@pytest.mark.parametrize(
    ("path", "data", "status", "code"),
    [
        ("/models/load", {"model": "chta"}, 404, "unknown_model"),
        ("/models/unload", {"model": "chat"}, 503, "model_busy"),
        ("/models/load", {}, 400, "bad_request"),
        ("/models/load", {"model": 7}, 400, "bad_request"),
        ("/models/load", b"{", 400, "bad_request"),
        ("/models/load", b"\xff", 400, None),
        ("/models/load", b"[" * 100_000, 400, None),
    ],
)
def test_errors_have_the_shape_of_the_house(path: str, data: Any, status: int, code: str | None) -> None:
    done = Door().exchange("POST", path, data)
    error = msgspec.json.decode(done.body)["error"]
    assert done.status == status
    assert code is None or error["code"] == code
    assert error["message"]


def test_a_near_name_is_told() -> None:
    assert b"did you mean chat" in Door().exchange("POST", "/models/load", {"model": "chta"}).body


def test_jobs_tell_their_age() -> None:
    first, second, past = Door().call("GET", "/jobs")["jobs"]
    assert (first["id"], second["id"], past["id"], past["state"]) == ("j1", "j2", "j0", "done")
    assert 9 <= first["arrived_ago"] < 60
    assert 4 <= first["started_ago"] < 60
    assert first["ended_ago"] is None
    assert past["ended_ago"] >= 0


def test_with_keys_everybody_sees_their_own_jobs() -> None:
    door = Door(keyed=True)
    assert [job["id"] for job in door.call("GET", "/jobs", authorization="Bearer k-bob")["jobs"]] == ["j2"]


def test_cancelling() -> None:
    door = Door()
    assert door.call("POST", "/jobs/j1/cancel", {}) == {"cancelled": True}
    assert door.call("POST", "/jobs/j2/cancel", {"mode": "abandon"}) == {"cancelled": True}
    assert door.call("POST", "/jobs/j0/cancel", {}) == {"cancelled": False}, "it has ended"
    assert door.call("POST", "/jobs/none/cancel", {}) == {"cancelled": False}
    assert door.hall.asked == [("cancel", "j1", "stop"), ("cancel", "j2", "abandon")]


def test_with_keys_only_ones_own_job_can_be_cancelled() -> None:
    door = Door(keyed=True)
    assert door.call("POST", "/jobs/j1/cancel", {}, authorization="Bearer k-bob") == {"cancelled": False}
    assert door.call("POST", "/jobs/j1/cancel", {}, authorization="Bearer k-ann") == {"cancelled": True}
    assert door.hall.asked == [("cancel", "j1", "stop")]


ROUTES = [
    ("GET", "/models"),
    ("GET", "/jobs"),
    ("GET", "/memory"),
    ("POST", "/models/load"),
    ("POST", "/models/unload"),
    ("POST", "/models/rescan"),
    ("POST", "/jobs/j1/cancel"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_route_wants_the_key(method: str, path: str) -> None:
    door = Door(keyed=True)
    assert door.exchange(method, path, {"model": "chat"}).status == 401
    assert door.hall.asked == []


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_open_to_all_without_a_key_it_answers_its_own_machine_only(method: str, path: str) -> None:
    door = Door(open_to_all=True)
    assert door.exchange(method, path, {"model": "chat"}, client="192.168.1.9").status == 403
    assert door.hall.asked == []
    assert door.exchange(method, path, {"model": "chat"}).status in (200, 503)


def test_nothing_changes_on_get() -> None:
    door = Door()
    for path in ("/models/load", "/models/unload", "/models/rescan", "/jobs/j1/cancel"):
        assert door.exchange("GET", path).status == 405
    assert door.hall.asked == []


def test_the_list_of_routes_above_is_complete() -> None:
    served = {
        (method, route.path.replace("{job:str}", "j1").removeprefix("/hearth/v1"))
        for route in Door().app.routes
        for method in getattr(route, "methods", ())
        if method != "OPTIONS"
    }
    assert served == set(ROUTES)
