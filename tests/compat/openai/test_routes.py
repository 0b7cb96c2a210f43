"""The door over HTTP: statuses, headers, streams, and clients that leave."""

import asyncio
import json
from time import perf_counter
from typing import Any

import pytest

from server.core.errors import ContextTooLong, QueueFull, WorkerDied
from server.core.jobs import CancelMode, Loading
from server.core.text import ChatRequest, CompletionRequest, TextDelta, TextStarted
from server.http.auth import ApiKey, Keyring, guard
from tests.compat.openai.door import HELLO, app, chat, complete, data_of, get, knocking, post
from tests.support.asgi import Exchange, http_scope
from tests.support.fake_service import FakeService, answer, image_card, resident, text_card


def test_models_are_listed_loaded_or_not_but_not_broken_ones() -> None:
    tiny = text_card("sub/tiny:q4", aliases=("tiny", "gpt"))
    service = FakeService(tiny, image_card(), text_card("bad", broken="cut"), residents=(resident(tiny),))
    body = get(service, "/v1/models").json()
    assert body["object"] == "list"
    text, image = body["data"]
    assert (text["id"], text["object"], text["created"], text["owned_by"]) == (
        tiny.id,
        "model",
        tiny.modified,
        "hearth",
    )
    assert text["aliases"] == ["tiny", "gpt"]
    assert text["meta"] == {
        "size": 1_000_000,
        "n_ctx_train": 512,
        "n_params": 260_000,
        "n_vocab": 512,
        "n_embd": 64,
        "ftype": "F32",
    }
    assert text["status"] == {"value": "loaded"} and image["status"] == {"value": "unloaded"}
    assert text["architecture"] == {"input_modalities": ["text"], "output_modalities": ["text"]}
    assert image["architecture"]["output_modalities"] == ["image"]
    assert service.submissions == []


@pytest.mark.parametrize("path", ["sub/tiny:q4", "sub%2Ftiny%3Aq4", "alias%20one"])
def test_one_model_by_its_id_or_alias(path: str) -> None:
    service = FakeService(text_card("sub/tiny:q4", aliases=("alias one",)))
    answered = get(service, f"/v1/models/{path}")
    assert answered.status_code == 200
    assert answered.json()["id"] == "sub/tiny:q4"


@pytest.mark.parametrize("path", ["tony", "..%2F..%2Fetc%2Fpasswd", "bad", "%00", "a/b/c"])
def test_models_that_are_not_there(path: str) -> None:
    answered = get(FakeService(text_card("tiny"), text_card("bad", broken="cut at 5")), f"/v1/models/{path}")
    assert answered.status_code == 404
    error = answered.json()["error"]
    assert (error["code"], error["param"]) == ("model_not_found", "model")


def test_a_whole_chat_answer() -> None:
    service = FakeService()
    service.script(*answer("Hello", " you", prompt=7))
    answered = chat(service, model="tiny", temperature=0)
    body = answered.json()
    assert answered.status_code == 200 and answered.headers["content-type"] == "application/json"
    assert body["id"].startswith("chatcmpl-") and body["object"] == "chat.completion"
    assert body["system_fingerprint"].startswith("b") and isinstance(body["created"], int)
    assert body["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello you", "refusal": None, "annotations": []},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert body["usage"]["total_tokens"] == 9 and body["timings"]["predicted_n"] == 2
    work = service.last
    assert isinstance(work, ChatRequest) and (work.model, work.sampling.temperature) == ("tiny", 0.0)


def test_a_whole_completion() -> None:
    service = FakeService()
    body = complete(service, prompt=["a", [5, 6]], n=2).json()
    assert body["id"].startswith("cmpl-") and body["object"] == "text_completion"
    assert [(choice["index"], choice["text"]) for choice in body["choices"]] == [(k, "Hello world") for k in range(4)]
    work = service.last
    assert isinstance(work, CompletionRequest) and work.prompts == ("a", (5, 6))


def test_a_streamed_chat() -> None:
    answered = chat(FakeService(), stream=True, stream_options={"include_usage": True})
    assert answered.status_code == 200
    assert answered.headers["content-type"].startswith("text/event-stream")
    assert answered.headers["cache-control"] == "no-cache" and answered.headers["x-accel-buffering"] == "no"
    *chunks, done = data_of(answered.text)
    assert done == "[DONE]"
    assert len({(chunk["id"], chunk["created"]) for chunk in chunks}) == 1
    assert [chunk["choices"][0]["delta"] for chunk in chunks[:-1]] == [
        {"role": "assistant", "content": None},
        {"content": "Hello"},
        {"content": " world"},
        {},
    ]
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"]["total_tokens"] == 7


def test_a_streamed_completion() -> None:
    *chunks, done = data_of(complete(FakeService(), stream=True).text)
    assert done == "[DONE]"
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == "Hello world"


def test_answers_have_ids_of_their_own() -> None:
    service = FakeService()
    assert chat(service).json()["id"] != chat(service).json()["id"]


@pytest.mark.parametrize("stream", [False, True])
def test_fields_without_effect_are_named(stream: bool) -> None:
    fields = {"user": "me", "tfs": 2, "xtc_threshold": None, "top_a": False, "bad name\n": 1, "é": 1}
    answered = chat(
        FakeService(), stream=stream, chat_template_kwargs={"tokenize": True, "a\nb": 1}, samplers=["tfs_z"], **fields
    )
    assert answered.headers["x-hearth-ignored"] == "user, tfs, chat_template_kwargs.tokenize, samplers.tfs_z"
    assert "x-hearth-ignored" not in chat(FakeService(), stream=stream).headers


STRICT = [
    ({"verbosity": "low"}, "verbosity"),
    ({"unheard_of": 1}, "unheard_of"),
    ({"chat_template_kwargs": {"tokenize": True}}, "chat_template_kwargs.tokenize"),
    ({"samplers": ["tfs_z"]}, "samplers.tfs_z"),
    ({"bad name\n": 1}, "(unprintable)"),
]


@pytest.mark.parametrize(("fields", "param"), STRICT)
@pytest.mark.parametrize("stream", [False, True])
def test_strict_settings_refuse_fields_without_effect(fields: dict[str, Any], param: str, stream: bool) -> None:
    service = FakeService()
    body = {"messages": HELLO, "stream": stream, **fields}
    answered = post(service, "/v1/chat/completions", body, strict=True)
    error = answered.json()["error"]
    assert (answered.status_code, error["param"], error["code"]) == (400, param, "unsupported_parameter")
    assert service.submissions == []


def test_strict_settings_let_honoured_fields_pass() -> None:
    body = {"messages": HELLO, "verbosity": None, "user": "", "temperature": 0, "samplers": ["top_k"]}
    assert post(FakeService(), "/v1/chat/completions", body, strict=True).status_code == 200


def test_too_many_unknown_fields_are_refused() -> None:
    assert chat(FakeService(), **{f"f{k}": None for k in range(256)}).status_code == 200
    assert chat(FakeService(), **{f"f{k}": None for k in range(257)}).status_code == 400


@pytest.mark.parametrize(
    ("fields", "status", "param", "code"),
    [
        ({"model": "tony"}, 404, "model", "model_not_found"),
        ({"model": "paint"}, 400, "model", "invalid_value"),
        ({"model": "bad"}, 400, "model", "invalid_value"),
        ({"model": 5}, 400, "model", "invalid_value"),
        ({"model": "x" * 2000}, 400, "model", "invalid_value"),
        ({"n": 129}, 400, "n", "invalid_value"),
        ({"n": 0}, 400, "n", "invalid_value"),
        ({"stop": ["x"] * 65}, 400, "stop", "invalid_value"),
        ({"logit_bias": {str(k): 1 for k in range(1025)}}, 400, "logit_bias", "invalid_value"),
        ({"messages": HELLO * 4097}, 400, "messages", "invalid_value"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            400,
            "messages[0].content[0].image_url",
            "invalid_value",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "http://example.org/a"}]}]},
            400,
            "messages[0].content[0].image_url",
            "unsupported_parameter",
        ),
        ({"tools": [{"type": "function", "function": {"name": "f"}}] * 129}, 400, "tools", "invalid_value"),
        ({"tool_choice": "required"}, 400, "tool_choice", "invalid_value"),
        ({"tools": [{"type": "custom"}]}, 400, "tools[0].type", "unsupported_parameter"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_refusals_have_a_status_and_name_the_field(
    fields: dict[str, Any], status: int, param: str, code: str | None, stream: bool
) -> None:
    service = FakeService(text_card(), image_card(), text_card("bad", broken="cut"))
    answered = chat(service, stream=stream, **fields)
    error = answered.json()["error"]
    assert answered.status_code == status
    assert error["param"] == param and code in (None, error["code"])
    assert service.submissions == []


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "empty"),
        (b"{", "not valid JSON"),
        (b"[" * 100_000, "object"),
        (b'{"a":' * 100_000, "nested"),
        (b"\xff", "JSON"),
    ],
)
def test_bodies_that_are_no_request(body: bytes, words: str) -> None:
    async def knock() -> None:
        async with knocking(FakeService()) as client:
            answered = await client.post("/v1/chat/completions", content=body)
            assert answered.status_code == 400
            assert words in answered.json()["error"]["message"]

    asyncio.run(knock())


def test_a_body_over_the_limit_is_413() -> None:
    answered = post(FakeService(), "/v1/completions", {"prompt": "x" * 2000}, body_limit=1000)
    assert answered.status_code == 413
    assert answered.json()["error"]["code"] == "request_too_large"


def test_a_body_over_the_frameworks_own_limit_is_read() -> None:
    assert complete(FakeService(), prompt="x" * 11_000_000).status_code == 200


@pytest.mark.parametrize("name", [None, ""])
def test_without_a_model_the_default_one_answers(name: str | None) -> None:
    service = FakeService(text_card("a"), text_card("b"))
    assert chat(service, model=name).json()["model"] == "a"
    assert post(service, "/v1/chat/completions", {"messages": HELLO}, default_model="b").json()["model"] == "b"
    assert chat(FakeService(image_card())).status_code == 404


@pytest.mark.parametrize("stream", [False, True])
def test_errors_before_the_first_byte_are_statuses(stream: bool) -> None:
    service = FakeService()
    service.script(Loading(model="tiny"), ContextTooLong.of(512, 600))
    answered = chat(service, stream=stream)
    error = answered.json()["error"]
    assert (answered.status_code, error["code"], error["param"]) == (400, "context_length_exceeded", "messages")
    service.script(ContextTooLong.of(512, 600))
    assert complete(service, stream=stream).json()["error"]["param"] == "prompt"
    service.script(QueueFull("full", retry_after=7))
    answered = chat(service, stream=stream)
    assert (answered.status_code, answered.headers["retry-after"]) == (429, "7")


def test_a_full_queue_is_told_by_the_service_itself() -> None:
    answered = chat(FakeService(queue_limit=0))
    assert answered.status_code == 429 and "retry-after" in answered.headers


@pytest.mark.parametrize("error", [WorkerDied("the worker died"), RuntimeError("secret")])
def test_errors_after_the_first_byte_are_frames_without_done(error: Exception) -> None:
    service = FakeService()
    service.script(TextStarted(prompt_tokens=1), TextDelta(choice=0, text="He"), error)  # type: ignore[arg-type]
    answered = chat(service, stream=True)
    assert answered.status_code == 200
    *chunks, last = data_of(answered.text)
    assert [chunk["choices"][0]["delta"].get("content") for chunk in chunks] == [None, "He"]
    assert set(last["error"]) == {"message", "type", "param", "code"}
    assert "secret" not in answered.text


def test_a_job_that_is_cancelled_while_it_waits_is_told() -> None:
    service = FakeService()
    service.script(Loading(model="tiny"))
    answered = chat(service)
    assert (answered.status_code, answered.json()["error"]["code"]) == (499, "cancelled")


def test_a_long_load_opens_the_stream_with_a_comment_and_errors_come_inside() -> None:
    async def knock() -> None:
        service = FakeService()
        loaded = asyncio.Event()
        service.script(Loading(model="tiny"), loaded, ContextTooLong.of(5, 9))
        exchange = Exchange([json.dumps({"prompt": "x", "stream": True}).encode()])
        running = asyncio.create_task(
            app(service, patience_s=0)(http_scope("/v1/completions", "POST"), exchange.receive, exchange.send)  # type: ignore[arg-type]
        )
        while len(exchange.sent) < 2:
            exchange.something_sent.clear()
            await exchange.something_sent.wait()
        assert exchange.status == 200 and exchange.body.startswith(b": ")
        loaded.set()
        await running
        (error,) = data_of(exchange.body.decode())
        assert error["error"]["param"] == "prompt"
        assert b"[DONE]" not in exchange.body

    asyncio.run(knock())


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("place", ["queue", "load", "decode"])
def test_a_client_that_leaves_cancels_its_job(stream: bool, place: str) -> None:
    before = {
        "queue": [],
        "load": [Loading(model="tiny")],
        "decode": [TextStarted(prompt_tokens=1), TextDelta(choice=0, text="He")],
    }

    async def knock() -> None:
        service, never = FakeService(), asyncio.Event()
        service.script(*before[place], never)
        exchange = Exchange([json.dumps({"messages": HELLO, "stream": stream}).encode()])
        running = asyncio.create_task(
            app(service)(http_scope("/v1/chat/completions", "POST"), exchange.receive, exchange.send)  # type: ignore[arg-type]
        )
        while not service.submissions:
            await asyncio.sleep(0)
        if stream and place == "decode":
            while len(exchange.sent) < 2:
                exchange.something_sent.clear()
                await exchange.something_sent.wait()
        exchange.leave()
        await running
        assert service.submissions[0].cancels == [CancelMode.ABANDON]
        assert service.live() == ()
        never.set()
        await asyncio.sleep(0)

    asyncio.run(knock())


def test_the_log_tells_of_an_ignored_field_once(caplog: pytest.LogCaptureFixture) -> None:
    async def knock() -> None:
        async with knocking(FakeService()) as client:
            for _ in range(3):
                await client.post("/v1/chat/completions", json={"messages": HELLO, "verbosity": "low"})

    with caplog.at_level("INFO", logger="compat.openai.desk"):
        asyncio.run(knock())
    assert [record.args for record in caplog.records] == [("verbosity",)]


def test_unknown_models_are_told_with_names_that_are_near() -> None:
    answered = chat(FakeService(text_card("mistral-7b"), text_card("qwen")), model="mistral7b")
    assert "mistral-7b" in answered.json()["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
def test_jobs_belong_to_the_key_that_asked(stream: bool) -> None:
    service = FakeService()
    keys = guard(Keyring([ApiKey(name="ann", key="secret")]))

    async def knock() -> None:
        async with knocking(service, guards=[keys]) as client:
            body = {"messages": HELLO, "stream": stream}
            refused = await client.post("/v1/chat/completions", json=body, headers={"Authorization": "Bearer other"})
            assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
            await client.post("/v1/chat/completions", json=body, headers={"Authorization": "Bearer secret"})

    asyncio.run(knock())
    assert [job.owner for job in service.submissions] == ["ann"]


def test_a_refusal_does_not_repeat_a_long_value() -> None:
    answered = chat(FakeService(), messages=[{"role": "x" * 100_000}])
    assert answered.status_code == 400 and len(answered.content) < 1000


def test_an_object_with_a_hundred_thousand_keys_is_refused_at_once() -> None:
    began = perf_counter()
    assert chat(FakeService(), **{f"key{k}": k for k in range(100_000)}).status_code == 400
    assert perf_counter() - began < 5
