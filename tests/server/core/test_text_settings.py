"""Settings of text models: the usual ones are fine, and what makes no sense is named by its key."""

from math import inf, nan
from typing import Any

import pytest

from server.core.models import Adapter, TextSettings
from server.core.text_settings import CHAT_FORMS, MOST_ADAPTERS, kv_types, problems
from server.registry.footprint import KV_BYTES


def test_the_defaults_are_fine() -> None:
    assert list(problems(TextSettings())) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"kv_type": "q8_0"},
        {"kv_type_k": "q8_0", "flash_attention": False},
        {"kv_type_k": "q4_0", "kv_type_v": "bf16", "flash_attention": False},
        {"split_mode": "none", "main_gpu": 1},
        {"tensor_split": (3.0, 0.0, 1.0)},
        {"rope_scaling": "yarn", "rope_frequency_scale": 0.25, "yarn_original_context": 4096},
        {"loras": ("a", Adapter(name="b", scale=-0.5))},
        {"loras": ()},
    ],
)
def test_settings_that_make_sense(fields: dict[str, Any]) -> None:
    assert list(problems(TextSettings(**fields))) == []


@pytest.mark.parametrize(
    ("key", "fields"),
    [
        ("slots", {"slots": 0}),
        ("slots", {"slots": 257}),
        ("batch", {"batch": 0}),
        ("context", {"context": -1}),
        ("context_cap", {"context_cap": 0}),
        ("threads", {"threads": -1}),
        ("gpu_layers", {"gpu_layers": -2}),
        ("kv_type", {"kv_type": "q3"}),
        ("kv_type", {"kv_type": ""}),
        ("kv_type_k", {"kv_type_k": "int8"}),
        ("kv_type_v", {"kv_type_v": "q8_0", "flash_attention": False}),
        ("kv_type", {"kv_type": "q8_0", "flash_attention": False}),
        ("split_mode", {"split_mode": "even"}),
        ("main_gpu", {"main_gpu": -1}),
        ("tensor_split", {"tensor_split": (1.0, -1.0)}),
        ("tensor_split", {"tensor_split": (0.0, 0.0)}),
        ("tensor_split", {"tensor_split": (nan,)}),
        ("tensor_split", {"tensor_split": (1.0,) * 17}),
        ("rope_scaling", {"rope_scaling": "dynamic"}),
        ("rope_frequency_base", {"rope_frequency_base": -1.0}),
        ("rope_frequency_scale", {"rope_frequency_scale": inf}),
        ("yarn_original_context", {"yarn_original_context": -5}),
        ("norm_epsilon", {"norm_epsilon": -1e-6}),
        ("norm_epsilon", {"norm_epsilon": 1.0}),
        ("norm_epsilon", {"norm_epsilon": nan}),
        ("chat_template", {"chat_template": "vikuna"}),
        ("loras", {"loras": ("a", Adapter(name="a"))}),
        ("loras", {"loras": ("",)}),
        ("loras", {"loras": (Adapter(name="a", scale=nan),)}),
        ("loras", {"loras": tuple(f"{number}" for number in range(MOST_ADAPTERS + 1))}),
    ],
)
def test_settings_that_make_none(key: str, fields: dict[str, Any]) -> None:
    assert [found for found, _ in problems(TextSettings(**fields))] == [key]


def test_a_half_of_the_cache_has_its_own_type_or_that_of_both() -> None:
    assert kv_types(TextSettings(kv_type="q8_0")) == ("q8_0", "q8_0")
    assert kv_types(TextSettings(kv_type="q8_0", kv_type_v="f16")) == ("q8_0", "f16")
    assert kv_types(TextSettings(kv_type_k="q4_0")) == ("q4_0", "f16")


@pytest.mark.parametrize("form", ["", *CHAT_FORMS, "mine.jinja", "folder/mine"])
def test_forms_and_files_may_be_named(form: str) -> None:
    assert list(problems(TextSettings(chat_template=form))) == []


def test_every_type_has_a_size() -> None:
    for name in KV_BYTES:
        assert list(problems(TextSettings(kv_type=name))) == []
