"""Files that are written tensor by tensor, as the registry's own reader reads them."""

import io
from pathlib import Path

from server.engines.text.legacy.gguf_file import ARRAY, BOOL, F32, I32, STRING, U32, GgufFile, Value
from server.registry.probe.gguf import read_gguf

VALUES = {
    "general.architecture": Value(STRING, "llama"),
    "a.number": Value(U32, 7),
    "a.flag": Value(BOOL, True),
    "a.fraction": Value(F32, 0.5),
    "a.texts": Value(ARRAY, ["x", "é"], STRING),
    "a.numbers": Value(ARRAY, [1, -2, 3], I32),
}


def test_tensors_lie_where_the_header_says(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    with path.open("wb") as file:
        made = GgufFile(file, VALUES, ("first", "second.weight"), (1, 2))
        made.begin("first", (3,), 0)
        file.write(b"abcdefghijkl")
        made.begin("second.weight", (32, 2), 2)
        file.write(b"z" * 36)
        made.close()
    data = path.read_bytes()
    header = read_gguf(io.BytesIO(data), len(data))
    assert header.values["a.number"] == 7 and header.values["a.numbers"] == [1, -2, 3]
    assert header.values["a.flag"] is True and header.values["a.fraction"] == 0.5
    assert header.lengths["a.texts"] == 2
    first, second = header.tensors
    assert (first.dims, second.dims, second.type) == ((3,), (32, 2), 2)
    assert data[header.data_start + first.offset :][:12] == b"abcdefghijkl"
    assert data[header.data_start + second.offset :][:36] == b"z" * 36


def test_a_tensor_begun_again_replaces_what_was_written(tmp_path: Path) -> None:
    """Also when it becomes shorter, or the file does."""
    for again in (b"q" * 128, b"q" * 4):
        path = tmp_path / "x.gguf"
        with path.open("wb") as file:
            made = GgufFile(file, VALUES, ("only",), (1,))
            made.begin("only", (len(again) // 4,), 2)
            file.write(b"z" * 90)
            made.again("only", 0)
            file.write(again)
            made.close()
        data = path.read_bytes()
        header = read_gguf(io.BytesIO(data), len(data))
        (only,) = header.tensors
        assert only.type == 0
        assert data[header.data_start + only.offset :].rstrip(b"\0") == again
