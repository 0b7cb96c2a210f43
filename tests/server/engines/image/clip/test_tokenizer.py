import hashlib
import json
from importlib.resources import files

import pytest

from server.engines.image.clip.tokenizer import ClipTokenizer, load_tokenizer
from tests.support.golden_images import GOLDEN
from tests.support.shared import golden, needs_shared

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def tokenizer() -> ClipTokenizer:
    return load_tokenizer()


def test_words_and_marks(tokenizer: ClipTokenizer) -> None:
    assert (tokenizer.start, tokenizer.end, tokenizer.comma) == (49406, 49407, 267)
    assert tokenizer.ids("") == []
    assert tokenizer.ids("a photo of a cat") == [320, 1125, 539, 320, 2368]


def test_case_and_blanks_do_not_count(tokenizer: ClipTokenizer) -> None:
    assert tokenizer.ids("  A  Photo\n of a\tCAT ") == tokenizer.ids("a photo of a cat")


def test_any_text_has_tokens_within_the_vocabulary(tokenizer: ClipTokenizer) -> None:
    for text in ("青い背景 🙂", "\x00\x7f", "ﬁ½", "<|endoftext|>", "it's 1999"):
        ids = tokenizer.ids(text)
        assert ids
        assert all(0 <= token < 49408 for token in ids)


def test_the_data_is_what_its_note_says() -> None:
    folder = files("server.engines.image.clip")
    digest = hashlib.sha256(folder.joinpath("bpe_simple_vocab_16e6.txt.gz").read_bytes()).hexdigest()
    assert digest in folder.joinpath("SOURCE.md").read_text()
    assert "MIT License" in folder.joinpath("LICENSE").read_text()


@needs_shared
@pytest.mark.golden
def test_vocabulary_is_the_published_one(tokenizer: ClipTokenizer) -> None:
    published = json.loads((GOLDEN / "openai" / "clip-tiny" / "vocab.json").read_text())
    assert tokenizer.vocabulary() == published


@needs_shared
@pytest.mark.golden
def test_recorded_single_spans(tokenizer: ClipTokenizer) -> None:
    """Prompts of one span in one chunk stand in the recording as they were tokenised."""
    checked = 0
    for entry in golden("prompts.json")["prompts"]:
        if len(entry["attention"]) == 1 and len(entry["chunks"]) == 1:
            text = entry["attention"][0][0]
            assert entry["chunks"][0]["tokens"][1 : 1 + entry["token_count"]] == tokenizer.ids(text)
            checked += 1
    assert checked > 20
