"""What a converted file says of itself."""

from pathlib import Path

import pytest

from server.core.ggml.checkpoint import assemble
from server.core.ggml.reading import read_part
from server.engines.text.legacy.metadata import metadata, origin
from server.engines.text.legacy.pieces import tokens
from tests.support.ggml_writer import GGJT1, GGJT2, GGJT3, Q4_0, Q4_2, Q4_3, Q5_0, Era, tiny_ggml


@pytest.mark.parametrize(
    ("era", "code", "width", "kept", "file_type"),
    [
        (GGJT3, Q4_0, 64, "unchanged", 2),
        (GGJT2, Q4_0, 64, "rounded", 2),
        (GGJT1, Q5_0, 64, "unchanged", 8),
        (GGJT1, Q4_2, 64, "Q8_0", 7),
        (GGJT1, Q4_2, 256, "Q6_K", 18),
        (GGJT1, Q4_3, 256, "Q8_0", 7),
    ],
)
def test_losses_are_told(tmp_path: Path, era: Era, code: int, width: int, kept: str, file_type: int) -> None:
    path = tiny_ggml(tmp_path / "x.bin", era=era, code=code, width=width).path
    with path.open("rb", buffering=0) as file:
        part = read_part(file, path.stat().st_size)
    checkpoint = assemble([part])
    assert kept in origin(checkpoint)
    values = metadata(checkpoint, tokens(part.pieces, part.hyper.vocabulary, trusted=True), "my model.bin")
    assert values["general.name"].value == "my model"
    assert values["general.file_type"].value == file_type
    assert values["llama.embedding_length"].value == width
    assert values["llama.feed_forward_length"].value == 2 * width
    assert len(values["tokenizer.ggml.tokens"].value) == values["llama.vocab_size"].value
