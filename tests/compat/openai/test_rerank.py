"""Reranking over HTTP, in both shapes."""

import asyncio
from collections.abc import AsyncIterator
from math import exp
from typing import Any

import pytest

from compat.openai.rerank import collect_scores
from server.core.errors import Cancelled, ContextTooLong, ProtocolError
from server.core.jobs import Event
from server.core.text import ScoresReady, TextDelta, TextStarted
from tests.compat.openai.door import post
from tests.support.fake_service import FakeService, text_card


def rank(service: FakeService, path: str = "/v1/rerank", **fields: Any) -> Any:
    return post(service, path, {"query": "q", **fields})


@pytest.mark.parametrize("path", ["/v1/rerank", "/v1/reranking"])
def test_jinas_shape_best_first(path: str) -> None:
    body = rank(FakeService(), path, documents=["a", {"text": "abc"}, "ab"], model="tiny").json()
    assert body == {
        "model": "tiny",
        "object": "list",
        "results": [
            {"index": 1, "relevance_score": 3.0},
            {"index": 2, "relevance_score": 2.0},
            {"index": 0, "relevance_score": 1.0},
        ],
        "usage": {"prompt_tokens": 5, "total_tokens": 5},
    }


def test_the_first_with_their_documents() -> None:
    body = rank(FakeService(), documents=["a", "abc"], top_n=1, return_documents=True).json()
    assert body["results"] == [{"index": 1, "relevance_score": 3.0, "document": {"text": "abc"}}]


def test_equal_scores_keep_their_order() -> None:
    body = rank(FakeService(), documents=["a", "b", "c"]).json()
    assert [result["index"] for result in body["results"]] == [0, 1, 2]


def test_teis_shape_is_a_bare_list_with_scores_from_0_to_1() -> None:
    body = rank(FakeService(), texts=["", "ab"], return_text=True).json()
    assert body == [
        {"index": 1, "score": pytest.approx(1 / (1 + exp(-2))), "text": "ab"},
        {"index": 0, "score": 0.5, "text": ""},
    ]
    assert rank(FakeService(), texts=["ab"], raw_scores=True).json() == [{"index": 0, "score": 2.0}]


def test_extreme_scores_are_numbers() -> None:
    service = FakeService()
    scores = ScoresReady(first=0, scores=(-1e9, 1e9))
    service.script(TextStarted(prompt_tokens=1), scores)
    assert [item["score"] for item in rank(service, texts=["a", "b"]).json()] == [1.0, 0.0]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "documents"),
        ({"documents": []}, "documents"),
        ({"texts": []}, "texts"),
        ({"documents": ["a"], "texts": ["a"]}, "texts"),
        ({"documents": ["a"], "query": ""}, "query"),
        ({"documents": ["a"], "query": None}, "query"),
        ({"documents": ["a"], "top_n": 0}, "top_n"),
        ({"documents": [{"title": "a"}]}, "documents[0].text"),
        ({"documents": [5]}, "documents[0]"),
        ({"documents": "abc"}, "documents"),
        ({"documents": ["a"] * 2049}, "documents"),
    ],
)
def test_requests_that_are_refused(fields: dict[str, Any], param: str) -> None:
    service = FakeService()
    answered = rank(service, **fields)
    error = answered.json()["error"]
    assert (answered.status_code, error["param"]) == (400, param), error
    assert service.submissions == []


def test_a_model_made_for_it_answers_when_none_is_named() -> None:
    cards = text_card("a"), text_card("bge", pooling="rank"), text_card("embed", pooling="mean")
    assert rank(FakeService(*cards), documents=["a"]).json()["model"] == "bge"


@pytest.mark.parametrize("name", ["documents", "texts"])
def test_a_document_that_is_too_long(name: str) -> None:
    service = FakeService()
    service.script(ContextTooLong.of(5, 9))
    assert rank(service, **{name: ["a"]}).json()["error"]["param"] == name


async def _events(*events: Event) -> AsyncIterator[Event]:
    for event in events:
        yield event


def test_scores_that_are_missing_or_of_another_job() -> None:
    scores = asyncio.run(
        collect_scores(_events(ScoresReady(first=1, scores=(2.0,)), ScoresReady(first=0, scores=(1.0,))), 2)
    )
    assert scores.scores == (1.0, 2.0)
    with pytest.raises(Cancelled):
        asyncio.run(collect_scores(_events(ScoresReady(first=0, scores=(1.0,))), 2))
    with pytest.raises(ProtocolError):
        asyncio.run(collect_scores(_events(TextDelta(choice=0, text="x")), 1))
