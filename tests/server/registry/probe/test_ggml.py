"""Files of 2023 as the registry sees them: llama models with their figures, others refused by name."""

import struct
from pathlib import Path

import pytest

from server.core.models import ModelKind, Runtime
from server.registry.probe.base import BrokenModel, Finding, NotMine
from server.registry.probe.identify import identify
from tests.support.ggml_writer import GGJT1, GGJT3, GGML, Q4_0, Q5_1, entries, tiny_ggml, tiny_weights, write_ggml
from tests.support.shared import SHARED, needs_shared

GOLDEN = SHARED / "golden" / "legacy-ggml"


def ask(path: Path) -> Finding:
    return identify(path, ModelKind.TEXT, allow_pickle=False)


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_a_llama_model_can_be_loaded(tmp_path: Path) -> None:
    finding = ask(tiny_ggml(tmp_path / "x.bin", era=GGJT1, code=Q5_1).path)
    assert (finding.runtime, finding.architecture, finding.broken) == (Runtime.LLAMA_CPP, "llama", None)
    assert finding.text is not None
    assert (finding.text.container, finding.text.quantisation) == ("ggjt v1", "Q5_1")
    assert finding.text.context_length == 2048


def test_the_extension_does_not_matter(tmp_path: Path) -> None:
    written = tiny_ggml(tmp_path / "x.gguf", era=GGJT3, code=Q4_0)
    finding = ask(written.path)
    assert finding.text is not None and finding.text.container == "ggjt v3"


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    known = entries()[: len(entries()) // 2 * 2]
    written = write_ggml(tmp_path / "x.bin", tiny_weights(len(known)), known, heads=4, era=GGML, parts=2)
    assert ask(written.path).broken is None
    (tmp_path / "x.bin.1").unlink()
    with pytest.raises(BrokenModel, match=r"x\.bin\.1"):
        ask(written.path)


def test_a_truncated_file_is_broken(tmp_path: Path) -> None:
    data = tiny_ggml(tmp_path / "x.bin").path.read_bytes()
    with pytest.raises(BrokenModel, match="cut short"):
        ask(put(tmp_path / "x.bin", data[:-100]))
    for size in range(4, 200):
        with pytest.raises(BrokenModel):
            ask(put(tmp_path / "x.bin", data[:size]))


@pytest.mark.parametrize(
    ("head", "text"),
    [(b"algg\1\0\0\0", "adapter"), (b"fmgg" + struct.pack("<I", 100), "RWKV"), (b"PK\x03\x04    ", "GGUF")],
)
def test_other_kinds_are_not_mine(tmp_path: Path, head: bytes, text: str) -> None:
    with pytest.raises(NotMine, match=text):
        ask(put(tmp_path / "x.bin", head + bytes(64)))


@needs_shared
@pytest.mark.golden
@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.bin")), ids=lambda path: path.name)
def test_real_files_are_recognised(path: Path) -> None:
    finding = ask(path)
    assert finding.broken is None and finding.text is not None
    name, _, rest = path.name.partition("-")
    assert finding.text.container.replace(" v", "") == name
    assert finding.text.quantisation in rest.upper().replace("_K_M", "_K_M")
