"""Settings of a text model on real llama.cpp: positions, cache types, ways to read the file."""

from collections.abc import Callable
from typing import Any

import pytest

from server.core.errors import LoadFailed
from server.core.models import TextSettings
from server.core.text import SamplingParams
from tests.support.tiny_gguf import tiny_gguf

pytest.importorskip("llama_cpp")

from server.engines.text.llama_cpp import LlamaLoader
from tests.support.llama_engine import ask, card, completion

pytestmark = pytest.mark.llama

PROMPT = "once upon a time there was a little dog named sun and a happy girl in the park " * 3
Told = Callable[..., str]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """Return what asks a model that is loaded with some settings to go on."""
    path = tiny_gguf(tmp_path_factory.mktemp("models") / "tiny.gguf", width=128)

    def ask_with(**fields: Any) -> str:
        settings = TextSettings(threads=1, slots=1, gpu_layers=0, **fields)
        engine = LlamaLoader().load(card(path), settings, lambda _: None)
        work = completion(PROMPT, sampling=SamplingParams(temperature=0, max_tokens=24, ignore_eos=True))
        text = ask(engine, work).text("job")  # type: ignore[arg-type]
        engine.close()
        return text

    return ask_with


@pytest.mark.parametrize(
    "fields",
    [
        {"rope_frequency_base": 10000.0},
        {"rope_frequency_scale": 1.0},
        {"rope_scaling": "none"},
        {"rope_scaling": "none", "rope_frequency_scale": 0.25},
        {"rope_scaling": "linear"},
        {"use_mmap": False},
        {"kv_type_k": "f16", "kv_type_v": "f16"},
        {"split_mode": "none"},
        {"tensor_split": (1.0, 3.0)},
    ],
)
def test_what_says_the_same_in_other_words_changes_nothing(told: Told, fields: dict[str, Any]) -> None:
    assert told(**fields) == told()


@pytest.mark.parametrize(
    "fields",
    [
        {"rope_frequency_base": 100.0},
        {"rope_frequency_scale": 0.25},
        {"rope_scaling": "linear", "rope_frequency_scale": 0.25},
        {"rope_scaling": "yarn", "rope_frequency_scale": 0.25, "yarn_original_context": 64},
    ],
)
def test_other_positions_are_other_words(told: Told, fields: dict[str, Any]) -> None:
    assert told(**fields) != told()


def test_yarn_looks_at_the_context_of_the_training(told: Told) -> None:
    scaled = {"rope_scaling": "yarn", "rope_frequency_scale": 0.25}
    assert told(**scaled, yarn_original_context=16) != told(**scaled, yarn_original_context=4096)


@pytest.mark.parametrize("fields", [{"kv_type_k": "q8_0"}, {"kv_type_v": "q8_0"}, {"kv_type": "bf16"}])
def test_halves_of_the_cache_have_types_of_their_own(told: Told, fields: dict[str, Any]) -> None:
    assert told(**fields)


def test_what_makes_no_sense_is_told_by_its_key(told: Told) -> None:
    for fields, words in (
        ({"kv_type_v": "q8_0", "flash_attention": False}, "kv_type_v"),
        ({"rope_scaling": "odd"}, "rope_scaling"),
        ({"main_gpu": 99}, "main_gpu"),
    ):
        with pytest.raises(LoadFailed, match=words):
            told(**fields)
