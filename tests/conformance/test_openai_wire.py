"""What an SDK hides: the bytes, headers and frames of the OpenAI door on a real connection."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.live_server import exchange
from tests.support.running import Running
from tests.support.tiny_models import needs_llama, tiny_models

pytestmark = [pytest.mark.llama, needs_llama]

CONFIG = """
[text]
slots = 4
threads = 1
[openai]
patience_s = 30.0
ping_s = 0.02
"""
HELLO = [{"role": "user", "content": "hello world"}]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("wire")
    models = tiny_models(folder / "models", text=("tiny",))
    with Running(models, folder / "run", config=CONFIG) as running:
        running.http.post("/hearth/v1/models/load", json={"model": "tiny"}).raise_for_status()
        yield running


def streamed(server: Running, path: str = "/v1/chat/completions", **fields: Any) -> tuple[httpx.Response, bytes]:
    body = {"model": "tiny", "stream": True, "max_tokens": 8, "temperature": 0, "ignore_eos": True, **fields}
    with server.http.stream("POST", path, json=body) as response:
        return response, b"".join(response.iter_raw())


def frames(raw: bytes) -> list[str]:
    """Return what each frame holds behind `data: `; comments are left out."""
    parts = raw.decode().split("\n\n")
    assert parts[-1] == "", "the last frame is not complete"
    events = [part for part in parts[:-1] if not part.startswith(":")]
    assert all(part.startswith("data: ") and "\n" not in part for part in events), events
    return [part.removeprefix("data: ") for part in events]


def test_the_headers_of_a_stream(server: Running) -> None:
    response, _ = streamed(server, messages=HELLO)
    assert response.status_code == 200
    assert response.headers["content-type"].partition(";")[0] == "text/event-stream"
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-accel-buffering"] == "no"
    assert response.headers["x-request-id"]
    assert "content-encoding" not in response.headers
    assert "content-length" not in response.headers


def test_the_frames_of_a_chat_stream(server: Running) -> None:
    _, raw = streamed(server, messages=HELLO)
    *bodies, done = frames(raw)
    assert done == "[DONE]"
    chunks = [json.loads(body) for body in bodies]
    first, *middle, last = chunks
    assert first["choices"] == [
        {"index": 0, "delta": {"role": "assistant", "content": None}, "logprobs": None, "finish_reason": None}
    ]
    for chunk in middle:
        (choice,) = chunk["choices"]
        assert set(choice["delta"]) == {"content"}
        assert choice["delta"]["content"] != ""
        assert choice["finish_reason"] is None
    assert last["choices"] == [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "length"}]
    assert all(chunk["object"] == "chat.completion.chunk" for chunk in chunks)
    assert all(type(chunk["created"]) is int for chunk in chunks)
    assert {(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks} == {
        (first["id"], first["created"], "tiny")
    }
    assert not any("usage" in chunk for chunk in chunks)


def test_usage_comes_last_and_only_when_asked_for(server: Running) -> None:
    _, raw = streamed(server, messages=HELLO, stream_options={"include_usage": True})
    *bodies, usage, done = frames(raw)
    assert done == "[DONE]"
    told = json.loads(usage)
    assert told["choices"] == []
    assert told["usage"]["completion_tokens"] == 8
    assert told["usage"]["total_tokens"] == told["usage"]["prompt_tokens"] + 8
    assert set(told["usage"]["prompt_tokens_details"]) >= {"cached_tokens"}
    chunks = [json.loads(body) for body in bodies]
    assert all(chunk["usage"] is None and chunk["choices"] for chunk in chunks)
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"
    assert told["id"] == chunks[0]["id"]


def test_the_frames_of_a_completion_stream(server: Running) -> None:
    _, raw = streamed(server, "/v1/completions", prompt="once upon")
    *bodies, done = frames(raw)
    assert done == "[DONE]"
    chunks = [json.loads(body) for body in bodies]
    assert all(chunk["object"] == "text_completion" for chunk in chunks)
    assert chunks[0]["id"].startswith("cmpl-")
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * (len(chunks) - 1) + ["length"]


def test_while_a_model_loads_comments_keep_the_connection_alive(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("impatient")
    models = tiny_models(folder / "models", text=("tiny",))
    with Running(models, folder / "run", config="[openai]\npatience_s = 0\nping_s = 0.02\n") as server:
        response, raw = streamed(server, messages=HELLO)
        assert response.status_code == 200
        before, colon, _ = raw.partition(b"data: ")
        assert colon
        comments = before.decode().split("\n\n")[:-1]
        assert len(comments) > 1, "no comment while the model was loading"
        assert all(comment.startswith(": ") and "\n" not in comment for comment in comments)
        assert frames(raw)[-1] == "[DONE]"
        _, raw = streamed(server, messages=[{"role": "user", "content": "the " * 600}])
        (refused,) = frames(raw)
        assert json.loads(refused)["error"]["code"] == "context_length_exceeded"


def test_errors_known_before_the_first_byte_are_a_status(server: Running) -> None:
    body = {"model": "tiny", "stream": True, "messages": [{"role": "user", "content": "the " * 600}]}
    answer = server.http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 400
    assert answer.headers["content-type"].startswith("application/json")
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")
    assert error["n_ctx"] == 512
    assert error["n_prompt_tokens"] > 512


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"messages": "hi"}',
        b'{"messages": []}',
        b'{"messages": [{"role": "user", "content": "\xff\xfe"}]}',
        b'{"messages": [{"role": "user"}]}',
        b'{"messages": [{"role": "king", "content": "hi"}]}',
        b'{"messages": [{"role": "user", "content": "hi"}], "max_tokens": "many"}',
        b'{"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1e400}',
        b"[" * 100_000,
        b'{"messages": ' + b'[{"role": "user", "content": ' * 3000,
    ],
)
def test_a_callers_mistake_is_never_a_5xx(server: Running, body: bytes) -> None:
    answer = server.http.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert set(answer.json()["error"]) >= {"message", "type", "param", "code"}


def test_wrong_ways_in_are_told_in_the_doors_own_words(server: Running) -> None:
    for method, path, status in (("GET", "/v1/nothing", 404), ("GET", "/v1/chat/completions", 405)):
        answer = server.http.request(method, path)
        assert answer.status_code == status
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_a_null_counts_as_absent(server: Running) -> None:
    nothing = dict.fromkeys(
        (
            "n",
            "stop",
            "seed",
            "top_p",
            "temperature",
            "tools",
            "tool_choice",
            "logit_bias",
            "stream",
            "user",
            "logprobs",
        )
    )
    body = {"model": None, "messages": HELLO, "max_tokens": 2, **nothing}
    answer = server.http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text


def test_unknown_fields_are_accepted_and_named(server: Running) -> None:
    body = {"model": "tiny", "messages": HELLO, "max_tokens": 2, "tfs": 0.5, "cache_prompt": True}
    answer = server.http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200
    assert set(answer.headers["x-hearth-ignored"].split(", ")) == {"tfs", "cache_prompt"}


@pytest.mark.parametrize("key", ["Bearer", "Bearer ", "Bearer null", "Basic ", "Basic Og=="])
def test_any_key_or_none_opens_a_server_without_keys(server: Running, key: str) -> None:
    head = f"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nAuthorization: {key}\r\nConnection: close\r\n\r\n"
    assert exchange(server.url, head.encode()).startswith(b"HTTP/1.1 200 ")
