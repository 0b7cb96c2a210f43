"""`POST /slots/{id_slot}?action=` over HTTP, and `id_slot` in requests and answers."""

from typing import Any

import msgspec
import pytest

from server.core.errors import InvalidValue
from server.core.slots import SlotDone, SlotRequest
from server.core.text import CompletionRequest
from server.http.auth import Keyring, guard
from tests.compat.llama_server.door import app, post
from tests.support.aio import asynchronous
from tests.support.asgi import ask, http_scope
from tests.support.fake_service import FakeService, text_card

FILE = {"filename": "x.bin"}
DONE = SlotDone(slot=2, tokens=1745, bytes=14309796, took_ms=49.8654)


def answered(path: str, body: Any = FILE, *steps: Any, **settings: Any) -> tuple[FakeService, Any]:
    service = FakeService(text_card("tiny"))
    service.script(*steps)
    return service, post(service, path, body, **({"saves_slots": True} | settings))


@pytest.mark.parametrize(
    ("action", "told"),
    [
        (
            "save",
            {"filename": "x.bin", "n_saved": 1745, "n_written": 14309796, "timings": {"save_ms": 49.865}},
        ),
        (
            "restore",
            {"filename": "x.bin", "n_restored": 1745, "n_read": 14309796, "timings": {"restore_ms": 49.865}},
        ),
        ("erase", {"n_erased": 1745}),
    ],
)
def test_answers_have_llama_servers_shape(action: str, told: dict[str, Any]) -> None:
    service, answer = answered(f"/slots/2?action={action}", FILE, DONE)
    assert answer.status_code == 200 and answer.json() == {"id_slot": 2} | told
    assert service.last == SlotRequest(model="tiny", slot=2, action=action, filename="x.bin")  # type: ignore[arg-type]


def test_a_slot_is_erased_without_a_body() -> None:
    _, answer = answered("/slots/2?action=erase", None, DONE)
    assert answer.json() == {"id_slot": 2, "n_erased": 1745}


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/slots/x?action=save", FILE, "Invalid slot ID"),
        ("/slots/-1?action=save", FILE, "Invalid slot ID"),
        ("/slots/1?action=keep", FILE, "Invalid action"),
        ("/slots/1", FILE, "Invalid action"),
        ("/slots/1?action=save", {}, "Invalid filename"),
        ("/slots/1?action=restore", {"filename": "../x"}, "Invalid filename"),
        ("/slots/1?action=restore", {"filename": "a/x"}, "Invalid filename"),
    ],
)
def test_what_makes_no_sense_is_refused_in_llama_servers_words(path: str, body: Any, words: str) -> None:
    service, answer = answered(path, body)
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, words)
    assert not service.submissions


def test_without_a_folder_nothing_is_done() -> None:
    service, answer = answered("/slots/1?action=save", saves_slots=False)
    assert answer.status_code == 400 and "does not support slots action" in answer.json()["error"]["message"]
    assert not service.submissions


def test_what_the_engine_refuses_is_told() -> None:
    _, answer = answered("/slots/1?action=restore", FILE, InvalidValue.of("filename", "Unable to restore slot: odd"))
    assert answer.status_code == 400 and answer.json()["error"]["param"] == "filename"


@asynchronous
async def test_an_owner_reaches_only_what_is_theirs() -> None:
    service = FakeService(text_card("tiny"))
    for owner, scope in (("ann", "ann\n"), ("", "")):
        service.script(DONE)
        stream = service.submit(SlotRequest(model="tiny", slot=0, action="erase"), owner=owner)
        assert [event async for event in stream] == [DONE]
        assert isinstance(service.last, SlotRequest) and service.last.scope == scope


@pytest.mark.parametrize(("given", "slot", "told"), [(3, 3, 3), (-1, None, -1), (None, None, -1)])
def test_requests_name_their_slot(given: int | None, slot: int | None, told: int) -> None:
    service = FakeService(text_card("tiny"))
    answer = post(service, "/completion", {"prompt": "x", "id_slot": given})
    assert isinstance(service.last, CompletionRequest) and service.last.slot == slot
    assert answer.json()["id_slot"] == told


@asynchronous
async def test_others_write_no_files_without_a_key() -> None:
    here = app(FakeService(), guards=[guard(Keyring(()), exposed=True)], saves_slots=True)
    scope = http_scope("/slots/1", "POST", {"content-type": "application/json"}, client=("203.0.113.9", 1))
    assert (await ask(here, scope, (msgspec.json.encode(FILE),))).status == 403
