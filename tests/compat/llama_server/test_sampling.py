"""How text is written: to the core, and back as `generation_settings`."""

from math import inf
from typing import Any

import pytest

from compat.llama_server import wire
from compat.llama_server.sampling import (
    constraint_to_core,
    sampling_to_core,
    settings_from_core,
    unknown_samplers,
)
from server.core.errors import InvalidValue
from server.core.text import GrammarConstraint, JsonConstraint, SamplingParams
from tests.compat.llama_server.door import completion


@pytest.mark.parametrize(
    ("fields", "core"),
    [
        ({}, {}),
        ({"temperature": -1}, {"temperature": 0.0}),
        ({"top_k": -1}, {"top_k": 0}),
        ({"repeat_penalty": 0}, {"repeat_penalty": 1.0}),
        ({"seed": -1}, {}),
        ({"seed": 2**32 + 7}, {"seed": 7}),
        ({"n_predict": -1}, {}),
        ({"n_predict": 5, "max_tokens": 9}, {"max_tokens": 5}),
        ({"max_tokens": 9}, {"max_tokens": 9}),
        ({"stop": "x"}, {"stop": ("x",)}),
        ({"stop": ["x", ""]}, {"stop": ("x",)}),
        ({"mirostat": 2, "mirostat_tau": 4}, {"mirostat": 2, "mirostat_tau": 4.0}),
        ({"dry_sequence_breakers": ["a"]}, {"dry_sequence_breakers": ("a",)}),
        ({"samplers": ["top-k", "typical_p", "temp", "infill"]}, {"samplers": ("top_k", "typ_p", "temperature")}),
        ({"samplers": "kpt?"}, {"samplers": ("top_k", "top_p", "temperature")}),
        ({"logit_bias": [[5, 1.5], ["ab", -2], [7, False]]}, {
            "logit_bias": ((5, 1.5), (7, -inf)), "text_bias": (("ab", -2.0),),
        }),
        ({"logit_bias": {"5": 1, "ab": False, "99999999999": 1}}, {
            "logit_bias": ((5, 1.0),), "text_bias": (("ab", -inf), ("99999999999", 1.0)),
        }),
    ],
)  # fmt: skip
def test_to_the_core(fields: dict[str, Any], core: dict[str, Any]) -> None:
    assert sampling_to_core(completion(**fields)) == SamplingParams(**core)


def test_unknown_samplers_are_named() -> None:
    assert unknown_samplers(completion(samplers=["infill", "top_k"])) == ("samplers.infill",)


def test_a_bias_must_not_be_true() -> None:
    with pytest.raises(InvalidValue):
        sampling_to_core(completion(logit_bias=[[5, True]]))


def test_constraints() -> None:
    assert constraint_to_core(completion()) is None
    assert constraint_to_core(completion(grammar="")) is None
    assert constraint_to_core(completion(grammar="root ::= x")) == GrammarConstraint(grammar="root ::= x")
    assert constraint_to_core(completion(json_schema={})) == JsonConstraint(schema="{}", param="json_schema")
    with pytest.raises(InvalidValue):
        constraint_to_core(completion(grammar="root ::= x", json_schema={}))


def test_settings_tell_what_holds() -> None:
    request = completion(temperature=0.1, n_predict=5, stop=["x"], samplers=["top_k"], n_probs=2, stream=True)
    told = settings_from_core(sampling_to_core(request), request)
    assert (told.temperature, told.n_predict, told.stop, told.samplers) == (0.1, 5, ("x",), ("top_k",))
    assert (told.n_probs, told.stream, told.top_k, told.seed) == (2, True, 40, 2**32 - 1)
    assert settings_from_core(SamplingParams(), completion()) == wire.GenerationSettings()


def test_a_forbidden_token_is_told_as_json_can() -> None:
    request = completion(logit_bias=[[5, False]])
    assert settings_from_core(sampling_to_core(request), request).logit_bias == ((5, False),)
