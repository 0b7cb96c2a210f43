import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import save_file

from server.core.image import EmbeddingRef, Size, TextEncoding
from server.core.prompt import plain
from server.engines.image import checkpoint, prompts
from server.engines.image.clip.tokenizer import load_tokenizer
from server.engines.image.conditioning import Conditioning
from server.engines.image.embeddings import EmbeddingShelf
from server.engines.image.offload import Seats
from server.engines.image.prompts import Asked, Prompter
from server.engines.image.text_encoding import Encoded
from server.engines.image.text_stack import TextStack
from tests.support.tiny_checkpoint import TEXT

pytestmark = pytest.mark.torch

CPU = torch.device("cpu")
ASKED = Asked(prompt=plain("a cat"), negative=plain(""), settings=TextEncoding(), size=Size(64, 64))


class Counting(TextStack):
    """Counts what is encoded: two prompts are two calls."""

    calls = 0

    def encode(self, texts: Any, settings: TextEncoding) -> list[Encoded]:
        self.calls += 1
        return super().encode(texts, settings)


def stack(tiny: checkpoint.Checkpoint) -> Counting:
    return Counting(tiny.texts, load_tokenizer(), tiny.family, Seats(CPU, "none"), CPU)


def prompter(found: TextStack) -> Prompter:
    return Prompter(found, EmbeddingShelf(found.tokenizer, found.widths, allow_pickle=False))


def same(one: Conditioning, two: Conditioning) -> bool:
    return torch.equal(one.at(0).parts, two.at(0).parts) and torch.equal(one.at(0).negative, two.at(0).negative)


def changed(**fields: Any) -> Asked:
    return Asked(**{name: getattr(ASKED, name) for name in ("prompt", "negative", "settings", "size")} | fields)


def test_the_same_prompts_are_encoded_once(tiny: checkpoint.Checkpoint) -> None:
    texts = stack(tiny)
    prompts_ = prompter(texts)
    first = prompts_.encoded(ASKED, [])
    assert texts.calls == 2
    # Prompts of another job are equal, not the same objects.
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(ASKED.prompt), type=type(ASKED.prompt))
    assert same(prompts_.encoded(changed(prompt=again), []), first)
    assert same(prompts_.encoded(changed(size=Size(128, 64)), []), first)  # SD1 is not told the size
    assert texts.calls == 2


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": plain("a dog")},
        {"negative": plain("grey")},
        {"settings": TextEncoding(clip_skip=2)},
        {"weights": (("lora", 1, 1.0, 1.0),)},
    ],
)
def test_whatever_matters_is_encoded_anew(tiny: checkpoint.Checkpoint, fields: dict[str, Any]) -> None:
    texts = stack(tiny)
    prompts_ = prompter(texts)
    prompts_.encoded(ASKED, [])
    prompts_.encoded(changed(**fields), [])
    assert texts.calls == 4


def test_an_embedding_counts_as_long_as_its_file_stays(tiny: checkpoint.Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "zqx.safetensors"
    texts, asked = stack(tiny), changed(prompt=plain("a zqx"))
    prompts_ = prompter(texts)
    refs = [EmbeddingRef(name="zqx", path=str(path))]

    def made(value: float, stamp: int) -> Conditioning:
        save_file({"emb_params": torch.full((1, TEXT), value)}, str(path))
        os.utime(path, ns=(stamp, stamp))
        found, notes = prompts_.embeddings(refs, [asked.prompt])
        assert notes == []
        return prompts_.encoded(asked, found)

    first = made(1.0, 10**18)
    assert same(made(1.0, 10**18), first)
    assert texts.calls == 2
    assert not same(made(3.0, 2 * 10**18), first)
    assert not same(prompts_.encoded(asked, []), first)
    assert texts.calls == 6


def test_the_oldest_go_first(tiny: checkpoint.Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompts, "MOST_KEPT", 2)
    texts = stack(tiny)
    prompts_ = prompter(texts)
    for word in ("one", "two", "one", "three", "one"):
        prompts_.encoded(changed(prompt=plain(word)), [])
    assert texts.calls == 2 * 3
    prompts_.encoded(changed(prompt=plain("two")), [])
    assert texts.calls == 2 * 4
