"""Sampling fields on the wire and in the core."""

from math import inf
from typing import Any

import msgspec
import pytest

from compat.openai import wire
from compat.openai.sampling import max_tokens_of, sampling_to_core, unknown_samplers
from server.core.errors import InvalidValue
from server.core.text import SamplingParams

HELLO = [{"role": "user", "content": "hi"}]


def read(**fields: Any) -> wire.ChatCompletionRequest:
    return msgspec.convert({"messages": HELLO, **fields}, wire.ChatCompletionRequest)


def sampling(**fields: Any) -> SamplingParams:
    request = read(**fields)
    return sampling_to_core(request, max_tokens_of(request, None))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {}),
        ({"temperature": 0.5, "top_p": 0.9}, {"temperature": 0.5, "top_p": 0.9}),
        ({"temperature": None, "top_k": None, "stop": None, "seed": None}, {}),
        ({"top_k": 0}, {"top_k": 0}),
        ({"top_k": -1}, {"top_k": 0}),
        ({"top_k": 40}, {"top_k": 40}),
        ({"min_p": 0.05, "typical_p": 1}, {"min_p": 0.05, "typical_p": 1.0}),
        ({"repeat_penalty": 1.1}, {"repeat_penalty": 1.1}),
        ({"repetition_penalty": 1.2}, {"repeat_penalty": 1.2}),
        ({"repeat_penalty": 1.1, "repetition_penalty": 1.2}, {"repeat_penalty": 1.1}),
        ({"repeat_penalty": 0}, {"repeat_penalty": 1.0}),
        ({"repeat_last_n": -1}, {"repeat_last_n": -1}),
        ({"frequency_penalty": -2, "presence_penalty": 2}, {"frequency_penalty": -2.0, "presence_penalty": 2.0}),
        ({"seed": 7}, {"seed": 7}),
        ({"seed": -1}, {"seed": None}),
        ({"seed": 2**32 + 5}, {"seed": 5}),
        ({"seed": -2}, {"seed": 2**32 - 2}),
        ({"seed": 2**32 - 1}, {"seed": None}),
        ({"max_tokens": 9}, {"max_tokens": 9}),
        ({"max_tokens": 0}, {"max_tokens": 0}),
        ({"max_tokens": -1}, {"max_tokens": None}),
        ({"n_predict": 3}, {"max_tokens": 3}),
        ({"max_tokens": 9, "n_predict": 3}, {"max_tokens": 9}),
        ({"max_completion_tokens": 4, "max_tokens": 9}, {"max_tokens": 4}),
        ({"max_completion_tokens": None, "max_tokens": 9}, {"max_tokens": 9}),
        ({"max_completion_tokens": -1, "max_tokens": 9}, {"max_tokens": None}),
        ({"stop": "END"}, {"stop": ("END",)}),
        ({"stop": ["a", "", "b"]}, {"stop": ("a", "b")}),
        ({"stop": []}, {}),
        ({"logit_bias": {}}, {}),
        ({"logit_bias": {"15": -100, "3": 2.5}}, {"logit_bias": ((15, -100.0), (3, 2.5))}),
        ({"logit_bias": {"15": False}}, {"logit_bias": ((15, -inf),)}),
        ({"logit_bias": [[15, False], [3, 1]]}, {"logit_bias": ((15, -inf), (3, 1.0))}),
        ({"ignore_eos": True}, {"ignore_eos": True}),
        ({"logit_bias": {"word": 1, "+5x": 2}}, {"text_bias": (("word", 1.0), ("+5x", 2.0))}),
        ({"logit_bias": {"²": 1}}, {"text_bias": (("²", 1.0),)}),
        (
            {"logit_bias": [["Hello, World!", -0.5], [7, 1], [" no", False]]},
            {"logit_bias": ((7, 1.0),), "text_bias": (("Hello, World!", -0.5), (" no", -inf))},
        ),
        ({"min_keep": 2, "top_n_sigma": -1}, {"min_keep": 2, "top_n_sigma": -1.0}),
        ({"dynatemp_range": 0.5, "dynatemp_exponent": 2}, {"dynatemp_range": 0.5, "dynatemp_exponent": 2.0}),
        ({"xtc_probability": 0.5, "xtc_threshold": 0.1}, {"xtc_probability": 0.5, "xtc_threshold": 0.1}),
        (
            {"dry_multiplier": 0.8, "dry_base": 1.75, "dry_allowed_length": 2, "dry_penalty_last_n": -1},
            {"dry_multiplier": 0.8, "dry_base": 1.75, "dry_allowed_length": 2, "dry_penalty_last_n": -1},
        ),
        ({"dry_sequence_breakers": ["\n", "", ":"]}, {"dry_sequence_breakers": ("\n", ":")}),
        ({"dry_sequence_breakers": '["\\n", "*"]'}, {"dry_sequence_breakers": ("\n", "*")}),
        ({"dry_sequence_breakers": []}, {"dry_sequence_breakers": ()}),
        ({"dry_sequence_breakers": ""}, {}),
        (
            {"mirostat": 2, "mirostat_tau": 5, "mirostat_eta": 0.1},
            {"mirostat": 2, "mirostat_tau": 5.0, "mirostat_eta": 0.1},
        ),
        ({"mirostat_mode": 1}, {"mirostat": 1}),
        ({"mirostat": 0, "mirostat_mode": 1}, {"mirostat": 0}),
        ({"samplers": ["dry", "tfs_z", "typical_p", "temp"]}, {"samplers": ("dry", "typ_p", "temperature")}),
        ({"samplers": "penalties;top-k;min_p"}, {"samplers": ("penalties", "top_k", "min_p")}),
        ({"samplers": []}, {}),
    ],
)
def test_sampling_fields(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    assert sampling(**fields) == msgspec.structs.replace(SamplingParams(), **expected)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"logit_bias": {"-1": 1}}, "logit_bias"),
        ({"logit_bias": {"9999999999": 1}}, "logit_bias"),
        ({"logit_bias": {"9" * 40: 1}}, "logit_bias"),
        ({"logit_bias": {"": 1}}, "logit_bias"),
        ({"logit_bias": {"x" * 1025: 1}}, "logit_bias"),
        ({"logit_bias": [["a", True]]}, "logit_bias"),
        ({"dry_sequence_breakers": "a, b"}, "dry_sequence_breakers"),
        ({"dry_sequence_breakers": "[" * 5000}, "dry_sequence_breakers"),
        ({"dry_sequence_breakers": "[1]"}, "dry_sequence_breakers"),
    ],
)
def test_values_that_make_no_sense(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        sampling(**fields)
    assert caught.value.fact("param") == param


def test_samplers_that_are_not_there_are_named() -> None:
    assert unknown_samplers(read(samplers=["tfs_z", "top_k", "a;b"])) == ("samplers.tfs_z", "samplers.a;b")
    assert unknown_samplers(read(samplers="x;top_p")) == ("samplers.x",)
    assert unknown_samplers(read()) == ()
