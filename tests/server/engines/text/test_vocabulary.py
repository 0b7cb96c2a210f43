"""Texts are tokenised as the recordings beside llama.cpp's vocabularies say."""

import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import pytest

from tests.support.llama_source import llama_files, needs_llama_source

pytest.importorskip("llama_cpp")

import llama_cpp

from server.engines.text.native import Model
from server.engines.text.vocabulary import Vocabulary

pytestmark = [pytest.mark.golden, pytest.mark.llama, needs_llama_source]

BETWEEN = "\n__ggml_vocab_test__\n"
RECORDED = [
    pytest.param(path, id=path.stem)
    for path in llama_files("models/ggml-vocab-*.gguf")
    if path.with_name(f"{path.name}.inp").exists()
]


class Loaded(NamedTuple):
    """A model without weights."""

    pointer: object


@pytest.fixture(scope="module", params=RECORDED)
def recorded(request: pytest.FixtureRequest) -> Iterator[tuple[Vocabulary, Path]]:
    path: Path = request.param
    params = llama_cpp.llama_model_default_params()
    params.vocab_only = True
    pointer = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
    assert ctypes.cast(pointer, ctypes.c_void_p).value is not None
    yield Vocabulary(cast(Model, Loaded(pointer))), path
    llama_cpp.llama_model_free(pointer)


def cases(path: Path) -> list[tuple[str, list[int]]]:
    """Return the recorded texts with their tokens."""
    texts = path.with_name(f"{path.name}.inp").read_bytes().decode().split(BETWEEN)
    rows = path.with_name(f"{path.name}.out").read_text().split("\n")
    return [(text, [int(token) for token in row.split()]) for text, row in zip(texts, rows, strict=False)]


def test_texts_become_the_recorded_tokens(recorded: tuple[Vocabulary, Path]) -> None:
    vocabulary, path = recorded
    wrong = {}
    for text, expected in cases(path):
        tokens = vocabulary.tokenise(text, special=False, room=len(text) + 16).tolist()
        if tokens != expected:
            wrong[text] = (tokens, expected)
    assert wrong == {}
    assert len(cases(path)) > 40


def test_tokens_spell_the_texts_they_were_made_of(recorded: tuple[Vocabulary, Path]) -> None:
    vocabulary, path = recorded
    for text, tokens in cases(path):
        spelled = vocabulary.detokenise(np.array(tokens, np.int32))
        if "bert" in path.name:  # this kind of vocabulary folds letters and knows no line breaks
            assert (
                vocabulary.tokenise(spelled, special=False, room=len(text) + 16).tolist() == tokens
                or "[UNK]" in spelled
            )
        else:
            assert spelled == text
