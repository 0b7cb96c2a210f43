"""Adapters on the wire and in the core."""

from typing import Any

import msgspec
import pytest

from compat.llama_server import wire
from compat.llama_server.adapters import list_from_core, scales_to_core
from compat.llama_server.convert import asked_by, completion_to_core
from server.core.models import AdapterFacts
from server.core.text import AdapterScale
from tests.compat.llama_server.door import completion


@pytest.mark.parametrize("lora", [None, []])
def test_a_request_that_names_none_leaves_it_to_what_is_set(lora: Any) -> None:
    assert completion_to_core(completion(lora=lora), "tiny").adapters is None


def test_ids_and_names_with_their_scales() -> None:
    request = completion(lora=[{"id": 1, "scale": 0.5}, {"id": "style"}])
    work = completion_to_core(request, "tiny")
    assert work.adapters == (
        AdapterScale(adapter=1, scale=0.5, param="lora[0].id"),
        AdapterScale(adapter="style", scale=0.0, param="lora[1].id"),
    )
    assert asked_by(request, work).settings.lora == (wire.LoraScale(id=1, scale=0.5), wire.LoraScale(id="style"))


@pytest.mark.parametrize("lora", [[{"scale": 1}], [{"id": -1}], [{"id": True}], [{"id": 0, "scale": 1e9}], {"id": 0}])
def test_malformed_ones_are_refused(lora: Any) -> None:
    with pytest.raises(msgspec.ValidationError):
        completion(lora=lora)


def test_a_body_that_is_the_list_names_its_entries() -> None:
    assert scales_to_core([wire.LoraScale(id=4)], "")[0].param == "[0].id"


def test_the_list_says_what_cannot_be_used() -> None:
    told = list_from_core([AdapterFacts(name="a", scale=0.5), AdapterFacts(name="b", problem="cut")])
    assert msgspec.to_builtins(told) == [
        {"id": 0, "path": "a", "scale": 0.5},
        {"id": 1, "path": "b", "scale": 0.0, "problem": "cut"},
    ]
