"""`/embedding`: both names of its inputs, norms, and the shape of the answer."""

from typing import Any

import pytest

from server.core.text import EmbeddingRequest, EmbeddingsReady, TextStarted
from tests.compat.llama_server.door import post
from tests.support.fake_service import FakeService, text_card


def service() -> FakeService:
    return FakeService(text_card("writer"), text_card("vectors", pooling="mean"))


@pytest.mark.parametrize(
    ("fields", "inputs"),
    [
        ({"content": "hi"}, ("hi",)),
        ({"content": ["a", "b"]}, ("a", "b")),
        ({"content": [1, 2]}, ((1, 2),)),
        ({"content": {"prompt_string": "a"}}, ("a",)),
        ({"input": "hi"}, ("hi",)),
        ({"input": ["a"], "content": "b"}, ("a",)),
    ],
)
def test_inputs(fields: dict[str, Any], inputs: Any) -> None:
    here = service()
    answered = post(here, "/embedding", fields)
    assert answered.status_code == 200
    assert here.last == EmbeddingRequest(model="vectors", inputs=inputs)
    bodies = answered.json()
    assert [body["index"] for body in bodies] == list(range(len(inputs)))
    assert [body["embedding"][0][0] for body in bodies] == [float(len(one)) for one in inputs]


@pytest.mark.parametrize(("fields", "norm"), [({}, 2), ({"embd_normalize": -1}, -1), ({"embd_normalize": 1}, 1)])
def test_norms(fields: dict[str, Any], norm: int) -> None:
    here = service()
    post(here, "/embedding", {"content": "x", **fields})
    assert isinstance(here.last, EmbeddingRequest) and here.last.norm == norm


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "content"),
        ({"content": ""}, "content"),
        ({"content": ["a", ""]}, "content[1]"),
        ({"input": [[]]}, "input[0]"),
        ({"content": "x", "embd_normalize": -2}, "embd_normalize"),
    ],
)
def test_refusals(fields: dict[str, Any], param: str) -> None:
    answered = post(service(), "/embedding", fields)
    assert (answered.status_code, answered.json()["error"]["param"]) == (400, param)


def test_a_named_model_and_the_default_one() -> None:
    here = service()
    post(here, "/embedding", {"content": "x", "model": "writer"})
    assert here.last.model == "writer"
    post(here, "/embedding", {"content": "x"}, default_embedder="writer")
    assert here.last.model == "writer"


def test_an_answer_that_is_not_whole_is_none() -> None:
    here = service()
    here.script(TextStarted(prompt_tokens=2), EmbeddingsReady(first=0, dimensions=1, vectors=bytes(4)))
    assert post(here, "/embedding", {"content": ["a", "b"]}).status_code == 499
