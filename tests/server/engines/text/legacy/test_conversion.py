"""Whole models through the converter: weights by llama.cpp's own dequantisers, parts joined, memory bounded."""

import io
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from server.core.ggml.checkpoint import assemble
from server.core.ggml.reading import GgmlError, read_part
from server.engines.text.legacy import conversion
from server.engines.text.legacy.conversion import Source, convert
from tests.support.ggml_values import gguf_values
from tests.support.ggml_writer import (
    F16,
    F32,
    GGJT1,
    GGJT2,
    GGMF,
    GGML,
    Q4_0,
    Q4_1,
    Q8_0,
    ROWS,
    Era,
    entries,
    tiny_weights,
    write_ggml,
)

pytestmark = pytest.mark.llama


def converted(paths: Sequence[Path], out: Path) -> dict[str, np.ndarray]:
    files = [path.open("rb", buffering=0) for path in paths]
    try:
        parts = [read_part(file, path.stat().st_size) for file, path in zip(files, paths, strict=True)]
        with out.open("wb") as made:
            convert(Source(files, parts[0], assemble(parts)), made, paths[0].name, lambda _: None)
    finally:
        for file in files:
            file.close()
    return gguf_values(out)


def near(read: np.ndarray, wanted: np.ndarray, share: float) -> bool:
    return bool(np.abs(read - wanted).max() <= share * np.abs(wanted).max())


@pytest.mark.parametrize("chunk", [1, 1000, 1 << 22])
@pytest.mark.parametrize(("era", "code"), [(ROWS, Q4_0), (ROWS, Q4_1), (GGML, Q4_1), (GGJT1, Q8_0), (GGMF, F16)])
def test_rows_may_come_in_any_portions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, era: Era, code: int, chunk: int
) -> None:
    monkeypatch.setattr(conversion, "CHUNK", chunk)
    old = write_ggml(tmp_path / "x.bin", tiny_weights(len(entries())), entries(), heads=4, era=era, code=code)
    read = converted([old.path], tmp_path / "x.gguf")
    assert read.keys() == old.values.keys()
    assert all(near(read[name], wanted, 1e-3) for name, wanted in old.values.items())


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize(("era", "code"), [(GGML, Q4_0), (ROWS, Q4_1), (GGMF, F32)])
def test_parts_become_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, era: Era, code: int, count: int) -> None:
    """Some matrices are split by columns, the others by rows."""
    monkeypatch.setattr(conversion, "CHUNK", 2000)
    known = entries()[: len(entries()) // 4 * 4]
    weights = tiny_weights(len(known), width=128)
    old = write_ggml(tmp_path / "x.bin", weights, known, heads=4, era=era, code=code, parts=count)
    paths = [old.path, *(tmp_path / f"x.bin.{number}" for number in range(1, count))]
    read = converted(paths, tmp_path / "x.gguf")
    assert all(near(read[name], wanted, 1e-3) for name, wanted in old.values.items())


@pytest.mark.parametrize(("era", "code"), [(GGMF, Q4_0), (GGJT2, Q4_1), (GGJT1, Q8_0)])
def test_a_tensor_with_huge_scales_becomes_float32(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, era: Era, code: int
) -> None:
    weights = tiny_weights(len(entries()))
    weights["blk.1.ffn_up.weight"] *= 1e6 if code != Q8_0 else 1e8
    old = write_ggml(tmp_path / "x.bin", weights, entries(), heads=4, era=era, code=code)
    read = converted([old.path], tmp_path / "x.gguf")
    assert all(near(read[name], wanted, 1e-3) for name, wanted in old.values.items())
    assert near(read["blk.1.ffn_up.weight"], old.values["blk.1.ffn_up.weight"], 1e-6)
    assert "1 tensors have scales beyond 16 bits" in caplog.text


def test_a_scale_that_is_no_number_is_told_with_its_tensor(tmp_path: Path) -> None:
    old = write_ggml(tmp_path / "x.bin", tiny_weights(len(entries())), entries(), heads=4, era=GGJT2, code=Q4_0)
    data = bytearray(old.path.read_bytes())
    with old.path.open("rb", buffering=0) as file:
        part = read_part(file, len(data))
    record = next(record for record in part.records if record.name == "layers.1.feed_forward.w1.weight")
    data[record.offset + 200 : record.offset + 204] = np.float32(np.nan).tobytes()
    old.path.write_bytes(data)
    with pytest.raises(GgmlError, match=r"blk\.1\.ffn_gate"):
        converted([old.path], tmp_path / "x.gguf")


def test_noise_for_weights_is_told(tmp_path: Path) -> None:
    old = write_ggml(tmp_path / "x.bin", tiny_weights(len(entries())), entries(), heads=4, era=GGML, code=Q4_0)
    data = bytearray(old.path.read_bytes())
    with old.path.open("rb", buffering=0) as file:
        part = read_part(file, len(data))
    record = next(record for record in part.records if record.name == "output.weight")
    noise = np.random.default_rng(2).integers(0, 256, record.size).astype(np.uint8)
    data[record.offset : record.offset + record.size] = noise.tobytes()
    old.path.write_bytes(data)
    with pytest.raises(GgmlError, match=r"output\.weight"):
        converted([old.path], tmp_path / "x.gguf")


def test_weights_are_never_all_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion, "CHUNK", 64 * 1024)
    known = entries()
    weights = tiny_weights(len(known), width=1024, layers=1)
    old = write_ggml(tmp_path / "x.bin", weights, known, heads=4, era=GGJT2, code=F16, mixed={"output.weight": Q4_0})
    with old.path.open("rb", buffering=0) as file, (tmp_path / "x.gguf").open("wb") as out:
        part = read_part(file, old.path.stat().st_size)
        source = Source([file], part, assemble([part]))
        tracemalloc.start()
        convert(source, out, "x.bin", lambda _: None)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert most < old.path.stat().st_size / 10


def test_a_file_that_shrinks_meanwhile_is_told(tmp_path: Path) -> None:
    old = write_ggml(tmp_path / "x.bin", tiny_weights(len(entries())), entries(), heads=4, era=GGJT2, code=Q4_0)
    data = old.path.read_bytes()
    with old.path.open("rb", buffering=0) as file:
        part = read_part(file, len(data))
    short = io.BytesIO(data[:-50])
    with (tmp_path / "x.gguf").open("wb") as out, pytest.raises(GgmlError, match="shorter"):
        convert(Source([short], part, assemble([part])), out, "x.bin", lambda _: None)
