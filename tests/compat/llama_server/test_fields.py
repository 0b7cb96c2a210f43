"""The tables of fields against the structs, and what really happens."""

from typing import Any

import pytest

from compat.llama_server import wire
from compat.llama_server.convert import asked_by, completion_to_core
from compat.llama_server.fields import HONOURED, IGNORED, LETTERS, REFUSED, SAMPLERS
from tests.compat.llama_server.door import completion, post
from tests.support.fake_service import FakeService

SAMPLES: dict[str, Any] = {
    "prompt": "other", "n_predict": 5, "max_tokens": 5, "n_cmpl": 2, "n": 2, "stop": "x", "seed": 3, "ignore_eos": True,
    "logit_bias": {"1": 2}, "temperature": 0.1, "dynatemp_range": 0.1, "dynatemp_exponent": 2, "top_k": 3, "top_p": 0.1,
    "min_p": 0.1, "typical_p": 0.1, "top_n_sigma": 1, "min_keep": 2, "xtc_probability": 0.1, "xtc_threshold": 0.2,
    "repeat_last_n": 5, "repeat_penalty": 1.5, "presence_penalty": 1, "frequency_penalty": 1, "dry_multiplier": 1,
    "dry_base": 2, "dry_allowed_length": 3, "dry_penalty_last_n": 5, "dry_sequence_breakers": ["x"], "mirostat": 1,
    "mirostat_tau": 4, "mirostat_eta": 0.2, "samplers": ["top_k"], "grammar": "root ::= x", "json_schema": {},
    "n_probs": 2, "return_tokens": True, "lora": [{"id": 0, "scale": 1}], "id_slot": 3,
}  # fmt: skip
ELSEWHERE = {"model", "stream", "response_fields", "input_prefix", "input_suffix", "input_extra"}


def test_the_tables_name_every_field_of_the_structs_once() -> None:
    fields = {*wire.CompletionRequest.__struct_fields__, *wire.InfillRequest.__struct_fields__}
    assert fields == set(HONOURED) | set(REFUSED)
    assert not set(IGNORED) & fields
    assert set(SAMPLES) | ELSEWHERE == set(HONOURED)


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_honoured_fields_change_the_work(name: str) -> None:
    changed = completion(**{name: SAMPLES[name]})
    assert completion_to_core(changed, "tiny") != completion_to_core(completion(), "tiny")


@pytest.mark.parametrize(
    "name", sorted(set(SAMPLES) - {"prompt", "n_cmpl", "n", "json_schema", "return_tokens", "id_slot"})
)
def test_settings_tell_of_every_field_that_has_one(name: str) -> None:
    changed = completion(**{name: SAMPLES[name]})
    told = asked_by(changed, completion_to_core(changed, "tiny")).settings
    assert told != wire.GenerationSettings()


def test_ignored_fields_are_named_in_the_answer() -> None:
    body = {"prompt": "p", "surprise": 1, "off": None} | dict.fromkeys(IGNORED, 1)
    answered = post(FakeService(), "/completion", body | {"samplers": ["infill"]})
    assert answered.status_code == 200
    assert set(answered.headers["x-hearth-ignored"].split(", ")) == {*IGNORED, "surprise", "samplers.infill"}


def test_letters_and_names_mean_samplers_of_the_default_order() -> None:
    default = set(wire.GenerationSettings().samplers)
    assert set(SAMPLERS.values()) == set(LETTERS.values()) == default
