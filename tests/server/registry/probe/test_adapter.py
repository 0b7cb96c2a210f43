"""LoRA adapters for text models, told by their headers."""

from pathlib import Path
from typing import Any

import pytest

from server.core.models import ModelKind
from server.registry.probe.base import Finding, NotMine
from server.registry.probe.identify import identify
from tests.support.gguf_writer import ARRAY, STRING, U32
from tests.support.model_files import F16, write_gguf
from tests.support.tiny_lora import ALPHA, RANK, TinyLora

I32 = 26
HEADER = {"general.architecture": "llama", "general.type": "adapter", "adapter.type": "lora", "adapter.lora.alpha": 8.0}


def probed(path: Path) -> Finding:
    return identify(path, ModelKind.TEXT, allow_pickle=False)


def test_an_adapter_tells_what_it_fits(tmp_path: Path) -> None:
    found = probed(TinyLora(1, width=32).write(tmp_path / "a.gguf"))
    assert (found.kind, found.runtime, found.architecture, found.broken) == (ModelKind.TEXT_LORA, None, "llama", None)
    assert found.text is not None
    assert (found.text.width, found.text.layers) == (32, 2)
    assert found.metadata["general.name"] == "a"
    assert (found.metadata["adapter.lora.alpha"], found.metadata["adapter.lora.rank"]) == (str(ALPHA), str(RANK))


@pytest.mark.parametrize("kind", ["control", ""])
def test_other_adapters_are_not_mine(tmp_path: Path, kind: str) -> None:
    with pytest.raises(NotMine, match="adapter"):
        probed(TinyLora(1).write(tmp_path / "a.gguf", adapter__type=(STRING, kind)))


def test_one_that_the_prompt_switches_on_is_not_loaded(tmp_path: Path) -> None:
    path = TinyLora(1).write(tmp_path / "a.gguf", adapter__alora__invocation_tokens=(ARRAY, (U32, [1, 2])))
    assert "aLoRA" in (probed(path).broken or "")


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({}, "no tensors"),
        ({"blk.0.attn_q.weight.lora_a": ((64, 4), F16)}, "missing"),
        ({"blk.0.attn_q.weight": ((64, 64), F16)}, "no part of a LoRA"),
        ({"blk.0.attn_norm.weight": ((64,), F16)}, None),
    ],
)
def test_what_is_no_pair_of_matrices_is_broken(tmp_path: Path, tensors: dict[str, Any], words: str | None) -> None:
    found = probed(write_gguf(tmp_path / "a.gguf", HEADER, tensors))
    assert found.kind is ModelKind.TEXT_LORA
    assert (found.broken is None) if words is None else (words in (found.broken or ""))


def test_numbers_that_the_library_would_trust_are_checked(tmp_path: Path) -> None:
    pair = {f"blk.0.attn_q.weight.lora_{half}": ((64, 4) if half == "a" else (4, 64), F16) for half in "ab"}
    assert probed(write_gguf(tmp_path / "a.gguf", HEADER, pair)).broken is None
    found = probed(write_gguf(tmp_path / "b.gguf", HEADER | {"adapter.lora.alpha": 8}, pair))
    assert "alpha" in (found.broken or "")
