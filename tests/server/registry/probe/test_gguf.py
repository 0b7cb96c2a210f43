"""The GGUF reader: what it reads, and that damage gives a reason and never another exception."""

import io
import random
import struct
from pathlib import Path

import pytest

from server.core.models import Runtime
from server.registry.probe.base import BrokenModel, NotMine
from server.registry.probe.gguf import read_gguf
from server.registry.probe.text import probe_gguf
from tests.support.model_files import F16, F32, LLAMA, LLAMA_TENSORS, Q4_0, gguf_bytes
from tests.support.shared import SHARED, needs_shared


def whole(kv=LLAMA, tensors=LLAMA_TENSORS, **options) -> bytes:
    header, data = gguf_bytes(kv, tensors, **options)
    return header + bytes(data)


def read(data: bytes):
    return read_gguf(io.BytesIO(data), len(data))


def probe(data: bytes):
    return probe_gguf(io.BytesIO(data), len(data))


def refused(data: bytes) -> str:
    with pytest.raises(BrokenModel) as caught:
        read(data)
    return str(caught.value)


def test_header_values_and_tensors_are_read():
    header = read(whole({**LLAMA, "x.scale": 0.5, "x.on": True, "x.list": [3, 4]}))
    assert header.text("general.architecture") == "llama"
    assert header.values["x.scale"] == 0.5 and header.values["x.on"] is True and header.values["x.list"] == [3, 4]
    assert header.lengths["tokenizer.ggml.tokens"] == 4
    assert [(t.name, t.dims, t.size) for t in header.tensors] == [
        ("token_embd.weight", (64, 4), 512),
        ("blk.0.attn_q.weight", (64, 64), 8192),
        ("output_norm.weight", (64,), 256),
    ]


def test_facts_of_a_text_model():
    finding = probe(whole())
    facts = finding.text
    assert finding.architecture == "llama"
    assert (facts.context_length, facts.layers, facts.width) == (2048, 2, 64)
    assert (facts.heads, facts.kv_heads, facts.key_length, facts.value_length) == (8, 4, 8, 8)
    assert facts.vocabulary == 4 and facts.quantisation == "F16" and facts.has_chat_template
    assert facts.parameters == 64 * 4 + 64 * 64 + 64
    assert finding.metadata["general.name"] == "Tiny"
    assert finding.metadata["tokenizer.chat_template"] == LLAMA["tokenizer.chat_template"]


def test_kv_heads_per_layer_are_averaged_upwards_and_missing_ones_are_the_heads():
    per_layer = probe(whole({**LLAMA, "llama.attention.head_count_kv": [8, 1]})).text
    without = probe(whole({key: value for key, value in LLAMA.items() if "kv" not in key})).text
    assert per_layer.kv_heads == 5
    assert without.kv_heads == without.heads == 8


def test_quantisation_without_a_file_type_is_that_of_most_weights():
    kv = {key: value for key, value in LLAMA.items() if key != "general.file_type"}
    tensors = {"a": ((64, 64), Q4_0), "b": ((64,), F32)}
    assert probe(whole(kv, tensors)).text.quantisation == "Q4_0"


def test_a_long_template_is_noticed_and_not_kept():
    header = read(whole({**LLAMA, "tokenizer.chat_template": "x" * 100_000}))
    assert header.has("tokenizer.chat_template") and "tokenizer.chat_template" not in header.values


def test_a_vocabulary_over_several_chunks_is_walked_exactly():
    words = [f"word {number} " + "x" * (number % 97) for number in range(20_000)]
    finding = probe(whole({**LLAMA, "tokenizer.ggml.tokens": words, "after": 7}))
    assert finding.text.vocabulary == 20_000
    assert read(whole({**LLAMA, "tokenizer.ggml.tokens": words, "after": 7})).integer("after") == 7


@pytest.mark.parametrize(
    "kind",
    [
        {"general.type": "mmproj"},
        {"general.architecture": "clip"},
        {"general.type": "adapter"},
        {"general.architecture": "t5encoder"},
        {"general.architecture": "flux"},
    ],
)
def test_what_does_not_work_with_text_by_itself_is_not_mine(kind):
    with pytest.raises(NotMine):
        probe(whole({**LLAMA, **kind}))


@pytest.mark.parametrize(
    ("values", "pooling"),
    [
        ({}, ""),
        ({"llama.pooling_type": 3}, "last"),
        ({"llama.pooling_type": 4}, "rank"),
        ({"llama.pooling_type": 99}, ""),
        ({"general.architecture": "bert", "bert.pooling_type": 2}, "cls"),
        ({"general.architecture": "nomic-bert"}, "mean"),
        ({"general.architecture": "new-bert", "new-bert.pooling_type": 0}, "mean"),
    ],
)
def test_models_that_make_vectors_tell_their_pooling(values, pooling):
    finding = probe(whole({**LLAMA, **values}))
    assert finding.runtime is Runtime.LLAMA_CPP
    assert finding.text.pooling == pooling


def test_parts_tell_their_number():
    second = probe(whole({"split.no": 1, "split.count": 3}))
    assert (second.part, second.parts) == (2, 3)


def test_a_vocabulary_alone_is_broken():
    with pytest.raises(BrokenModel, match="no weights"):
        probe(whole(tensors={}))


def test_other_files_are_not_mine():
    for data in (b"", b"GG", b"PK\x03\x04" + bytes(100)):
        with pytest.raises(NotMine):
            read(data)


@pytest.mark.parametrize(("version", "reason"), [(1, "version 1"), (4, "not known"), (3 << 24, "big-endian")])
def test_versions_that_nobody_loads(version, reason):
    assert reason in refused(whole(version=version))


def patched(at: int, form: str, value: int) -> bytes:
    data = bytearray(whole())
    struct.pack_into(form, data, at, value)
    return bytes(data)


def test_counts_are_bounded_before_anything_is_read():
    assert "65536" in refused(patched(8, "<Q", 1 << 60))
    assert "65536" in refused(patched(16, "<Q", 65_537))


def test_a_string_longer_than_the_limit_or_the_file_is_refused():
    assert "limit" in refused(patched(24, "<Q", 1 << 62))
    assert "ends within" in refused(patched(24, "<Q", 60_000))


def test_a_tensor_outside_the_file_is_refused():
    data = whole()
    assert "cut short" in refused(data[:-300])


def test_shapes_that_overflow_are_refused():
    header, _ = gguf_bytes(LLAMA, {"a": ((1 << 40, 1 << 40), F32)})
    assert "impossible shape" in refused(header)


def test_overlapping_unaligned_and_twin_tensors_are_refused():
    one = {"a": ((64, 64), F16), "b": ((64, 64), F16)}
    data = bytearray(whole(LLAMA, one))
    place = data.index(struct.pack("<IQ", F16, 8192))
    struct.pack_into("<Q", data, place + 4, 4096)
    assert "over another" in refused(bytes(data))
    struct.pack_into("<Q", data, place + 4, 8193)
    assert "aligned" in refused(bytes(data))
    twin = whole(LLAMA, one).replace(b"\x01\0\0\0\0\0\0\0b", b"\x01\0\0\0\0\0\0\0a")
    assert "same name" in refused(twin)


def test_rows_that_are_not_whole_blocks_are_refused():
    assert "whole blocks" in refused(whole(LLAMA, {"a": ((33, 4), Q4_0)}))


def test_random_damage_raises_only_our_errors():
    rng = random.Random(1)
    good = whole({**LLAMA, "x.list": [1, 2, 3]})
    outcomes = set()
    for _ in range(3000):
        data = bytearray(good[: rng.randrange(len(good))] if rng.random() < 0.3 else good)
        for _ in range(rng.randrange(1, 6)):
            if data:
                data[rng.randrange(min(len(data), 700))] = rng.randrange(256)
        try:
            probe(bytes(data))
            outcomes.add("read")
        except (NotMine, BrokenModel) as error:
            outcomes.add(type(error).__name__)
    assert outcomes == {"read", "NotMine", "BrokenModel"}


@needs_shared
@pytest.mark.golden
def test_real_weights_are_recognised():
    path: Path = SHARED / "models" / "stories260K.gguf"
    with path.open("rb") as file:
        finding = probe_gguf(file, path.stat().st_size)
    facts = finding.text
    assert finding.architecture == "llama" and facts.quantisation == "F32"
    assert (facts.context_length, facts.layers, facts.heads, facts.kv_heads) == (512, 5, 8, 4)
    assert facts.parameters == 292_800  # as llama.cpp itself prints
    assert facts.vocabulary == 512 and not facts.has_chat_template
