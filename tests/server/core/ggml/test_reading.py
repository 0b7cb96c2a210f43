"""Headers of files of 2023: what they say, and that no damaged or hostile one is believed."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest

from server.core.ggml.reading import MOST_PIECES, GgmlError, Part, read_part
from tests.support.ggml_writer import (
    GGJT1,
    GGJT2,
    GGJT3,
    GGMF,
    GGML,
    Q4_0,
    Q4_2,
    Q5_0,
    Q8_0,
    Era,
    entries,
    tiny_ggml,
    tiny_weights,
    write_ggml,
)

HEADER = (400, 64, 32, 4, 2, 16, 2)


def read(data: bytes) -> Part:
    return read_part(io.BytesIO(data), len(data))  # type: ignore[arg-type]


def refused(data: bytes) -> str:
    with pytest.raises(GgmlError) as caught:
        read(data)
    return str(caught.value)


def whole(tmp_path: Path, era: Era = GGJT3, code: int = Q4_0) -> bytes:
    return tiny_ggml(tmp_path / "x.bin", era=era, code=code).path.read_bytes()


@pytest.mark.parametrize(
    ("era", "label"), [(GGML, "ggml"), (GGMF, "ggmf v1"), (GGJT1, "ggjt v1"), (GGJT2, "ggjt v2"), (GGJT3, "ggjt v3")]
)
def test_every_container_is_read(tmp_path: Path, era: Era, label: str) -> None:
    data = whole(tmp_path, era)
    part = read(data)
    known = entries()
    assert part.label == label
    assert (part.hyper.vocabulary, part.hyper.width, part.hyper.heads, part.hyper.layers) == (len(known), 64, 4, 2)
    assert [piece.text for piece in part.pieces] == [text for text, _ in known]
    assert [piece.score for piece in part.pieces] == [score if era.version else None for _, score in known]
    assert len(part.records) == 3 + 9 * 2
    assert "norm.weight" in part.flat and "output.weight" not in part.flat
    last = part.records[-1]
    assert last.offset + last.size == len(data)
    assert all(record.offset % 32 == 0 for record in part.records) or era.container != "ggjt"


def test_every_truncation_is_told_with_both_sizes(tmp_path: Path) -> None:
    data = whole(tmp_path)
    ends = {record.offset + record.size for record in read(data).records}
    for size in [0, 3, 7, 20, 40, 500, *range(5000, len(data), 977), len(data) - 1]:
        if size not in ends:
            assert str(size) in refused(data[:size])


def test_a_missing_last_entry_is_noticed(tmp_path: Path) -> None:
    """Some files of models with a pad token promise it and do not hold it; their tensors have its row."""
    known = entries()
    weights = tiny_weights(len(known) + 1)
    for era in (GGML, GGJT1):
        written = write_ggml(tmp_path / "x.bin", weights, known, heads=4, era=era, promised=len(known) + 1)
        part = read(written.path.read_bytes())
        assert (len(part.pieces), part.hyper.vocabulary) == (len(known), len(known) + 1)
        assert len(part.records) == 3 + 9 * 2


@pytest.mark.parametrize(("field", "value"), [(0, 0), (0, MOST_PIECES + 1), (0, -1), (1, 0), (1, 1 << 30), (3, 0)])
def test_a_header_out_of_bounds_is_refused(field: int, value: int) -> None:
    header = list(HEADER)
    header[field] = value
    assert "header" in refused(b"lmgg" + struct.pack("<7i", *header) + bytes(4096))


@pytest.mark.parametrize(("field", "value"), [(3, 7), (3, 64), (4, 513), (6, 1002), (6, 99)])
def test_a_header_that_cannot_be_llamas_is_refused(field: int, value: int) -> None:
    header = list(HEADER)
    header[field] = value
    refused(b"lmgg" + struct.pack("<7i", *header) + bytes(4096))


def test_a_vocabulary_of_gigabytes_is_refused() -> None:
    head = b"lmgg" + struct.pack("<7i", MOST_PIECES, *HEADER[1:])
    assert "cut short" in refused(head + struct.pack("<I", 4096) + bytes(100))
    assert "entry 0" in refused(head + struct.pack("<I", 4097) + bytes(10000))
    assert "entry 0" in refused(head + struct.pack("<i", -5) + bytes(10000))
    entry = struct.pack("<I", 4096) + bytes(4096)
    assert "does not read" in refused(head + entry * (64 * 256 + 2))


def test_versions_and_magics(tmp_path: Path) -> None:
    data = whole(tmp_path)
    assert "version 4" in refused(data[:4] + struct.pack("<I", 4) + data[8:])
    assert "version 2" in refused(b"fmgg" + struct.pack("<I", 2) + data[8:])
    assert "no ggml" in refused(b"GGUF" + data[4:])


def changed(data: bytes, at: int, value: int) -> bytes:
    return data[:at] + struct.pack("<i", value) + data[at + 4 :]


def test_tensor_records_are_bounded(tmp_path: Path) -> None:
    data = whole(tmp_path, GGMF)
    name = b"layers.0.attention.wq.weight"
    begin = data.index(name) - 20
    assert struct.unpack_from("<3i", data, begin) == (2, len(name), Q4_0)
    for offset, value in ((0, 3), (0, -1), (4, 0), (4, 100_000)):
        assert f"byte {begin}" in refused(changed(data, begin + offset, value))
    for code in (Q4_2, Q5_0, Q8_0, 9, 14, -1, 2**31 - 1):
        text = refused(changed(data, begin + 8, code))
        assert "attention.wq" in text and str(code) in text
    for value in (0, -64, 2**31 - 1):
        assert "shape" in refused(changed(data, begin + 12, value))
    assert "whole blocks" in refused(changed(data, begin + 12, 48))
    assert "cut short" in refused(changed(data, begin + 16, 1 << 22))
    assert "twice" in refused(data.replace(name, b"layers.0.attention.wk.weight"))


@pytest.mark.parametrize(
    ("name", "model"),
    [(b"gpt_neox.embed_in.weight", "GPT-NeoX"), (b"transformer.h.0.ln_1.weight", "GPT-J"), (b"model/wte", "GPT-2")],
)
def test_other_models_with_the_same_magic_are_called_by_their_name(name: bytes, model: str) -> None:
    """GPT-J's header has the length of its texts where llama's has the width, and the vocabulary's length once more."""
    head = b"lmgg" + struct.pack("<8i", 50400, 2048, 4096, 16, 28, 64, 1, 50400)
    assert model in refused(head + struct.pack("<I", 1) + b"!" + bytes(64) + name + bytes(64))


def test_bytes_behind_the_last_tensor_are_damage(tmp_path: Path) -> None:
    data = whole(tmp_path)
    refused(data + b"\0")
    refused(data + bytes(64))


def test_random_damage_is_told_or_harmless(tmp_path: Path) -> None:
    """Whatever bytes change in the header, the answer is a part or GgmlError."""
    data = whole(tmp_path, GGJT1)
    random = np.random.default_rng(5)
    for _ in range(300):
        damaged = bytearray(data)
        for at in random.integers(0, 6000, 3):
            damaged[at] = int(random.integers(256))
        try:
            part = read(bytes(damaged))
        except GgmlError:
            continue
        assert all(record.offset + record.size <= len(data) for record in part.records)
