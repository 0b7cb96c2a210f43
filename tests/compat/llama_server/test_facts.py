"""What is told of models, slots and the server."""

from typing import Any

import msgspec
import pytest

from compat.llama_server import wire
from compat.llama_server.facts import Facts
from compat.llama_server.settings import LlamaServerSettings
from server.core.errors import NotNow, UnknownModel
from server.core.image import ImageRequest
from server.core.jobs import JobId
from server.core.text import ChatRequest, EmbeddingRequest, ReasoningDelta, TextDelta, TextFinished, Usage
from server.service.board import JobEntry
from server.service.service import ResidentView
from tests.support.builders import chat, image
from tests.support.fake_service import FakeService, image_card, resident, text_card


def facts(service: FakeService, **settings: Any) -> Facts:
    return Facts(service, LlamaServerSettings(**settings))


def loaded(name: str, **fields: Any) -> ResidentView:
    return msgspec.structs.replace(resident(text_card(name)), **fields)


def running(service: FakeService, number: int, owner: str = "", model: str = "tiny", work: Any = None) -> JobEntry:
    job = JobId(f"j{number}")
    entry = JobEntry(job, work or ChatRequest(model=model, messages=()), owner=owner, tag="", now=0.0)
    service.loop.board.add(entry)
    service.loop.board.running(job, 1.0)
    return entry


@pytest.mark.parametrize(
    ("name", "default", "residents", "chosen"),
    [
        ("b", "a", (), "b"),
        (None, "b", (), "b"),
        ("", "", (), "a"),
        (None, "", (loaded("b"),), "b"),
        (None, "", (loaded("a", last_used=1.0), loaded("b", last_used=2.0)), "b"),
        (None, "", (loaded("b", state="leaving"),), "a"),
    ],
)
def test_which_model_answers(name: str | None, default: str, residents: Any, chosen: str) -> None:
    service = FakeService(text_card("b"), text_card("a"), text_card("0", broken="cut"), residents=residents)
    assert facts(service, default_model=default).model(name) == chosen


def test_without_any_text_model_there_is_none() -> None:
    with pytest.raises(UnknownModel):
        facts(FakeService(image_card())).model(None)


def test_props_of_a_model_that_is_not_loaded() -> None:
    card = text_card("tiny", metadata={"tokenizer.chat_template": "{{ messages }}"})
    props = facts(FakeService(card), slots=3, context_cap=100).props("tiny")
    assert (props.total_slots, props.default_generation_settings.n_ctx, props.is_sleeping) == (3, 100, True)
    assert (props.chat_template, props.model_alias, props.model_path) == ("{{ messages }}", "tiny", "tiny.gguf")
    assert facts(FakeService(card)).props(None).default_generation_settings.n_ctx == 512
    assert facts(FakeService(card), context=64).props(None).default_generation_settings.n_ctx == 64


def test_props_of_a_loaded_model_are_what_it_said() -> None:
    service = FakeService(text_card("tiny"), residents=(loaded("tiny", slots=7, context=256),))
    props = facts(service).props("tiny")
    assert (props.total_slots, props.default_generation_settings.n_ctx, props.is_sleeping) == (7, 256, False)


def test_props_of_no_model() -> None:
    with pytest.raises(UnknownModel):
        facts(FakeService()).props("other")


def test_slots_are_the_callers_own_running_text_jobs() -> None:
    service = FakeService(
        text_card("tiny"), text_card("b"), image_card(), residents=(loaded("tiny", context=256), loaded("b"))
    )
    running(service, 1, "ann")
    running(service, 2, "bob")
    running(service, 3, "ann", model="b")
    running(service, 4, "ann", work=image("x"))
    service.loop.board.add(JobEntry(JobId("j5"), ChatRequest(model="tiny", messages=()), owner="ann", tag="", now=0))
    told = facts(service)
    slots = told.slots("ann", None, fail_when_full=False)
    assert [(slot.id, slot.id_task, slot.model, slot.n_ctx) for slot in slots] == [
        (0, "j1", "tiny", 256),
        (1, "j3", "b", 0),
    ]
    assert [slot.id_task for slot in told.slots("ann", "b", fail_when_full=False)] == ["j3"]
    assert told.slots("eve", None, fail_when_full=False) == []


def test_a_slot_tells_how_its_text_is_written_and_how_far_it_is() -> None:
    service = FakeService(text_card("tiny"))
    limited = running(service, 1, work=chat("x", model="tiny", max_tokens=5, top_k=7))
    running(service, 2, work=chat("x", model="tiny"))
    running(service, 3, work=EmbeddingRequest(model="tiny", inputs=("x",)))
    limited.note(TextDelta(choice=0, text="ab", tokens=2))
    limited.note(ReasoningDelta(choice=0, text="c", tokens=1))
    first, second, third = facts(service).slots("", None, fail_when_full=False)
    assert isinstance(first.params, wire.GenerationSettings)
    assert (first.params.n_predict, first.params.top_k, first.params.top_p) == (5, 7, 0.95)
    assert first.next_token == wire.NextToken(n_remain=2, n_decoded=3)
    assert second.next_token == wire.NextToken(n_remain=-1, n_decoded=0)
    assert "params" not in msgspec.to_builtins(third) and "next_token" not in msgspec.to_builtins(third)


@pytest.mark.parametrize(
    ("name", "default", "chosen"), [("a", "b", "a"), (None, "b", "b"), (None, "", "vectors"), ("", "", "vectors")]
)
def test_which_model_makes_vectors(name: str | None, default: str, chosen: str) -> None:
    service = FakeService(text_card("a"), text_card("ranks", pooling="rank"), text_card("vectors", pooling="cls"))
    assert facts(service, default_embedder=default).embedder(name) == chosen
    assert facts(FakeService(text_card("only"))).embedder(None) == "only"


def test_no_slot_is_an_error_when_that_is_asked_for() -> None:
    service = FakeService(text_card("tiny"), residents=(loaded("tiny", slots=2, jobs=2),))
    with pytest.raises(NotNow, match="no slot"):
        facts(service).slots("", None, fail_when_full=True)
    assert facts(service).slots("", None, fail_when_full=False) == []
    service.loop.views = [loaded("tiny", slots=2, jobs=1)]
    assert facts(service).slots("", "tiny", fail_when_full=True) == []


def test_metrics() -> None:
    service = FakeService(text_card("tiny"), residents=(loaded("tiny"),))
    entry = running(service, 1, "ann")
    running(service, 2, work=image("x"))
    service.loop.board.add(JobEntry(JobId("j3"), ChatRequest(model="tiny", messages=()), owner="", tag="", now=0))
    usage = Usage(prompt_tokens=10, completion_tokens=4, cached_tokens=6)
    entry.note(TextFinished(choice=0, reason="stop", usage=usage, prompt_ms=500.0, predicted_ms=2000.0))
    text = facts(service).metrics()
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert values == {
        "llamacpp:prompt_tokens_total": "4",
        "llamacpp:prompt_seconds_total": "0.5",
        "llamacpp:tokens_predicted_total": "4",
        "llamacpp:tokens_predicted_seconds_total": "2",
        "llamacpp:prompt_tokens_seconds": "8",
        "llamacpp:predicted_tokens_seconds": "2",
        "llamacpp:requests_processing": "1",
        "llamacpp:requests_deferred": "1",
        "hearth:cached_tokens_total": "6",
        "hearth:models_loaded": "1",
        'hearth:memory_used_bytes{pool="ram"}': "1000000",
        'hearth:memory_limit_bytes{pool="ram"}': "8000000",
    }
    for name in {name.partition("{")[0] for name in values}:
        assert f"# TYPE {name} " in text and f"# HELP {name} " in text
    assert isinstance(image("x"), ImageRequest)
