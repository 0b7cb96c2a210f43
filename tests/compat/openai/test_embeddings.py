"""Embeddings over HTTP and in their conversions."""

import asyncio
import base64
import struct
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from compat.openai import vectors_wire
from compat.openai.embeddings import collect_vectors, embeddings_from_core, embeddings_to_core
from server.core.errors import Cancelled, ContextTooLong, InvalidValue, ProtocolError
from server.core.jobs import Event, Waiting
from server.core.text import EmbeddingRequest, EmbeddingsReady, TextDelta, TextStarted
from tests.compat.openai.door import post
from tests.support.fake_service import FakeService, text_card


def to_core(**fields: Any) -> EmbeddingRequest:
    return embeddings_to_core(msgspec.convert(fields, vectors_wire.EmbeddingRequest), "tiny")


def embed(service: FakeService, **fields: Any) -> Any:
    return post(service, "/v1/embeddings", {"input": "hi", **fields})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("a", ("a",)),
        (["a", "b"], ("a", "b")),
        ([1, 2], ((1, 2),)),
        ([[1], [2, 3]], ((1,), (2, 3))),
    ],
)
def test_inputs(given: Any, expected: Any) -> None:
    assert to_core(input=given).inputs == expected


@pytest.mark.parametrize(
    ("given", "param"),
    [("", "input"), (["a", ""], "input[1]"), ([[]], "input[0]"), (["a"] * 2049, "input"), (["a", 1], "input[1]")],
)
def test_inputs_that_are_refused(given: Any, param: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        to_core(input=given)
    assert caught.value.fact("param") == param
    service = FakeService()
    answered = embed(service, input=given)
    assert (answered.status_code, answered.json()["error"]["param"]) == (400, param)
    assert service.submissions == []


def test_numbers_by_default_in_the_order_of_the_inputs() -> None:
    body = embed(FakeService(), input=["abc", "a"], model="tiny").json()
    assert body == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [3.0, 0.5, -0.25, 1.0]},
            {"object": "embedding", "index": 1, "embedding": [1.0, 0.5, -0.25, 1.0]},
        ],
        "model": "tiny",
        "usage": {"prompt_tokens": 5, "total_tokens": 5},
    }


def test_base64_is_little_endian_float32() -> None:
    body = embed(FakeService(), input="abc", encoding_format="base64", dimensions=2).json()
    assert struct.unpack("<2f", base64.b64decode(body["data"][0]["embedding"])) == (3.0, 0.5)


@pytest.mark.parametrize(
    "fields", [{"encoding_format": "int8"}, {"dimensions": 0}, {"dimensions": "x"}, {"input": None}, {"input": []}]
)
def test_wrong_values(fields: dict[str, Any]) -> None:
    answered = embed(FakeService(), **fields)
    assert (answered.status_code, answered.json()["error"]["param"]) == (400, next(iter(fields)))


def test_a_model_made_for_it_answers_when_none_is_named() -> None:
    cards = text_card("a-writer"), text_card("nomic", pooling="mean"), text_card("z", pooling="cls")
    assert embed(FakeService(*cards)).json()["model"] == "nomic"
    assert embed(FakeService(cards[0], cards[2])).json()["model"] == "z"
    assert embed(FakeService(cards[0])).json()["model"] == "a-writer"
    named = post(FakeService(*cards), "/v1/embeddings", {"input": "x"}, default_embedder="z")
    assert named.json()["model"] == "z"


def test_the_default_writer_is_no_embedding_model() -> None:
    service = FakeService(text_card("a", pooling="last"), text_card("b"))
    body = post(service, "/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]}).json()
    assert body["model"] == "b"


def test_errors_of_the_job() -> None:
    service = FakeService()
    service.script(ContextTooLong.of(5, 9))
    error = embed(service).json()["error"]
    assert (error["code"], error["param"]) == ("context_length_exceeded", "input")
    service.script(TextStarted(prompt_tokens=1))
    assert embed(service).status_code == 499


async def _events(*events: Event) -> AsyncIterator[Event]:
    for event in events:
        yield event


def collected(count: int, *events: Event) -> Any:
    return asyncio.run(collect_vectors(_events(*events), count))


def rows(first: int, *values: float) -> EmbeddingsReady:
    return EmbeddingsReady(first=first, dimensions=1, vectors=struct.pack(f"<{len(values)}f", *values))


def test_vectors_may_come_in_any_order() -> None:
    vectors = collected(3, Waiting(position=0), TextStarted(prompt_tokens=9), rows(2, 3.0), rows(0, 1.0, 2.0))
    assert vectors.tokens == 9
    body = msgspec.json.decode(embeddings_from_core(vectors, "tiny", as_base64=False))
    assert [item["embedding"] for item in body["data"]] == [[1.0], [2.0], [3.0]]


def test_vectors_that_are_missing_or_broken() -> None:
    with pytest.raises(Cancelled):
        collected(2, rows(0, 1.0))
    with pytest.raises(ProtocolError):
        collected(1, EmbeddingsReady(first=0, dimensions=3, vectors=b"1234"))
    with pytest.raises(ProtocolError):
        collected(1, EmbeddingsReady(first=0, dimensions=0, vectors=b""))
    with pytest.raises(ProtocolError):
        collected(1, TextDelta(choice=0, text="x"))
