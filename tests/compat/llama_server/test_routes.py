"""The door over HTTP: shapes, statuses, streams, and clients that leave."""

import asyncio
import json
from typing import Any

import pytest
from litestar import Litestar

from compat.llama_server import LlamaServerSettings, dialect
from server.core.errors import ContextTooLong, QueueFull, WorkerDied
from server.core.jobs import CancelMode, Loading
from server.core.text import CompletionRequest, TextDelta, TextStarted, TokenizeRequest
from server.http.auth import ApiKey, Keyring, guard
from tests.compat.llama_server.door import app, chunks_of, get, knocking, post
from tests.support.asgi import Exchange, http_scope
from tests.support.fake_service import FakeService, answer, image_card, text_card


@pytest.mark.parametrize("path", ["/completion", "/completions"])
def test_a_whole_completion(path: str) -> None:
    service = FakeService()
    service.script(*answer("Hello", " you", prompt=7, cached=3))
    answered = post(service, path, {"prompt": "hi", "n_predict": 5})
    body = answered.json()
    assert answered.status_code == 200 and answered.headers["content-type"] == "application/json"
    assert (body["content"], body["stop"], body["stop_type"], body["index"]) == ("Hello you", True, "eos", 0)
    assert (body["tokens_predicted"], body["tokens_evaluated"], body["model"]) == (2, 7, "tiny")
    assert body["generation_settings"]["n_predict"] == 5 and body["prompt"] == "hi"
    assert "completion_probabilities" not in body
    assert isinstance(service.last, CompletionRequest) and service.live() == ()


def test_several_completions_are_a_list() -> None:
    bodies = post(FakeService(), "/completion", {"prompt": ["a", "b"]}).json()
    assert [body["prompt"] for body in bodies] == ["a", "b"]
    assert isinstance(post(FakeService(), "/completion", {"prompt": ["a"]}).json(), dict)


def test_wanted_fields() -> None:
    fields = {"prompt": "x", "response_fields": ["content", "generation_settings/top_k"]}
    assert post(FakeService(), "/completion", fields).json() == {"content": "Hello world", "top_k": 40}
    last = chunks_of(post(FakeService(), "/completion", {**fields, "stream": True}).text)[-1]
    assert last == {"content": "", "top_k": 40}


def test_a_streamed_completion() -> None:
    service = FakeService()
    service.script(*answer("Hello", " you", prompt=7))
    answered = post(service, "/completion", {"prompt": "hi", "stream": True})
    assert answered.headers["content-type"].startswith("text/event-stream")
    chunks = chunks_of(answered.text)
    assert [(chunk["content"], chunk["stop"]) for chunk in chunks] == [("Hello", False), (" you", False), ("", True)]
    assert chunks[0]["tokens_evaluated"] == 7 and "model" not in chunks[0]
    assert chunks[-1]["timings"]["predicted_n"] == 2
    assert service.live() == ()


def test_infill() -> None:
    service = FakeService()
    body = post(service, "/infill", {"input_prefix": "a", "input_suffix": "b"}).json()
    assert body["content"] == "Hello world"
    work = service.last
    assert isinstance(work, CompletionRequest) and (work.prompts, work.suffix) == (("a",), "b")
    missing = post(service, "/infill", {"input_prefix": "a"})
    assert missing.status_code == 400 and missing.json()["error"]["param"] == "input_suffix"


def test_tokens_there_and_back() -> None:
    service = FakeService()
    # In the double every byte is a token.
    tokens = post(service, "/tokenize", {"content": "hé"}).json()
    assert tokens == {"tokens": list("hé".encode())}
    pieces = post(service, "/tokenize", {"content": "hé", "with_pieces": True}).json()
    assert pieces["tokens"][:2] == [{"id": 104, "piece": "h"}, {"id": 195, "piece": [195]}]
    assert post(service, "/detokenize", tokens).json() == {"content": "hé"}
    assert service.live() == ()


@pytest.mark.parametrize(
    ("fields", "special", "parse"),
    [({}, False, True), ({"add_special": True, "parse_special": False}, True, False)],
)
def test_special_tokens(fields: dict[str, Any], special: bool, parse: bool) -> None:
    service = FakeService()
    post(service, "/tokenize", {"content": "x", **fields})
    work = service.last
    assert isinstance(work, TokenizeRequest) and (work.add_special, work.parse_special) == (special, parse)


def test_a_conversation_is_rendered() -> None:
    answered = post(FakeService(), "/apply-template", {"messages": [{"role": "user", "content": "hi"}]})
    assert answered.json() == {"prompt": "<user>hi"}


def test_props() -> None:
    service = FakeService(text_card("a/tiny:q4", metadata={"tokenizer.chat_template": "T"}))
    body = get(service, "/props?model=a%2Ftiny%3Aq4").json()
    assert body["default_generation_settings"]["n_ctx"] == 512
    assert body["default_generation_settings"]["params"]["temperature"] == 0.8
    assert (body["chat_template"], body["total_slots"], body["model_alias"]) == ("T", 8, "a/tiny:q4")
    assert "/models/text" not in json.dumps(body)
    assert get(service, "/props?model=other").status_code == 404
    assert service.submissions == []


def test_metrics_are_text() -> None:
    answered = get(FakeService(), "/metrics")
    assert answered.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "llamacpp:requests_processing 0\n" in answered.text


def test_slots_belong_to_keys() -> None:
    keyed = guard(Keyring([ApiKey(name="ann", key="a"), ApiKey(name="bob", key="b")]))

    async def run() -> tuple[Any, Any, int]:
        service, never = FakeService(), asyncio.Event()
        service.script(TextStarted(prompt_tokens=1), never)
        async with knocking(service, guards=[keyed]) as client:
            mine, other = {"authorization": "Bearer a"}, {"authorization": "Bearer b"}
            asking = asyncio.create_task(client.post("/completion", json={"prompt": "secret"}, headers=mine))
            while not service.live() or service.live()[0].state != "running":
                await asyncio.sleep(0)
            told = (await client.get("/slots", headers=mine)).json()
            hidden = (await client.get("/slots", headers=other)).json()
            refused = (await client.get("/slots")).status_code
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        return told, hidden, refused

    told, hidden, refused = asyncio.run(run())
    assert len(told) == 1 and told[0]["is_processing"] and "secret" not in json.dumps(told)
    assert (hidden, refused) == ([], 401)


@pytest.mark.parametrize("stream", [False, True])
def test_errors_before_the_first_byte_have_a_status(stream: bool) -> None:
    service = FakeService()
    service.script(ContextTooLong.of(5, 9))
    service.script(QueueFull("full", retry_after=2))
    too_long = post(service, "/completion", {"prompt": "x", "stream": stream})
    assert too_long.status_code == 400 and too_long.json()["error"]["n_ctx"] == 5
    full = post(service, "/completion", {"prompt": "x", "stream": stream})
    assert (full.status_code, full.headers["retry-after"]) == (429, "2")
    unknown = post(service, "/completion", {"prompt": "x", "stream": stream, "model": "tinny"})
    assert (unknown.status_code, unknown.json()["error"]["type"]) == (404, "not_found_error")


def test_a_picture_model_does_not_write() -> None:
    answered = post(FakeService(text_card(), image_card()), "/completion", {"prompt": "x", "model": "paint"})
    assert answered.status_code == 400


def test_an_error_in_mid_stream_is_a_frame_and_the_end() -> None:
    service = FakeService()
    service.script(TextStarted(prompt_tokens=1), TextDelta(choice=0, text="He"), WorkerDied("the worker died"))
    chunks = chunks_of(post(service, "/completion", {"prompt": "x", "stream": True}).text)
    assert chunks[-1] == {"error": {"code": 503, "message": "the worker died", "type": "unavailable_error"}}
    assert len(chunks) == 2


def test_strictness() -> None:
    refused = post(FakeService(), "/completion", {"prompt": "x", "n_keep": 1}, strict=True)
    assert refused.status_code == 400 and refused.json()["error"]["param"] == "n_keep"
    refused = post(FakeService(), "/tokenize", {"content": "x", "odd": 1}, strict=True)
    assert refused.status_code == 400


def knock(service: FakeService, body: dict[str, Any], **settings: Any) -> tuple[Exchange, "asyncio.Task[None]"]:
    exchange = Exchange((json.dumps(body).encode(),))
    scope = http_scope("/completion", "POST", {"content-type": "application/json"})
    answering = app(service, **settings)(scope, exchange.receive, exchange.send)  # type: ignore[arg-type]
    return exchange, asyncio.ensure_future(answering)  # type: ignore[arg-type]


def test_a_stream_that_has_to_wait_opens_with_a_comment() -> None:
    async def run() -> str:
        service, gate = FakeService(), asyncio.Event()
        service.script(Loading(model="tiny"), gate, *answer("x"))
        exchange, task = knock(service, {"prompt": "x", "stream": True}, patience_s=0)
        await exchange.something_sent.wait()
        gate.set()
        await task
        return exchange.body.decode()

    text = asyncio.run(run())
    assert text.startswith(": waiting") and chunks_of(text)[-1]["stop"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_the_job(stream: bool) -> None:
    async def run() -> list[CancelMode]:
        service, never = FakeService(), asyncio.Event()
        service.script(TextStarted(prompt_tokens=1), TextDelta(choice=0, text="x"), never)
        exchange, task = knock(service, {"prompt": "x", "stream": stream})
        while not service.submissions:
            await asyncio.sleep(0)
        if stream:
            await exchange.something_sent.wait()
        exchange.leave()
        await task
        assert service.live() == ()
        never.set()
        return service.submissions[0].cancels

    assert asyncio.run(run()) == [CancelMode.ABANDON]


def test_the_description_of_the_routes_can_be_made() -> None:
    described = Litestar([dialect(FakeService(), LlamaServerSettings()).router], logging_config=None)
    assert "/tokenize" in described.openapi_schema.to_schema()["paths"]
