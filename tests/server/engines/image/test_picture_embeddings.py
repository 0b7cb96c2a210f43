from pathlib import Path
from typing import Any

import pytest
import torch

from server.core.errors import LoadFailed
from server.engines.image.embeddings import read_vectors
from server.engines.image.picture_embeddings import is_picture, read_picture
from server.http.png import add_text
from tests.support.fake_images import tiny_png
from tests.support.picture_embedding import picture_with

pytestmark = pytest.mark.torch

VECTORS = [[0.5, -1.0, 2.0], [1.0, 0.0, 0.25]]


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_vectors_come_out_of_a_picture(tmp_path: Path) -> None:
    path = put(tmp_path / "x.png", picture_with(VECTORS))
    assert is_picture(path)
    (found,) = read_vectors(path, allow_pickle=False)
    assert torch.equal(found, torch.tensor(VECTORS))


@pytest.mark.parametrize("vectors", ["text", [["a"]], {"x": 1}, [[1.0], [1.0, 2.0]], None])
def test_damaged_vectors(tmp_path: Path, vectors: Any) -> None:
    with pytest.raises(LoadFailed, match="damaged"):
        read_picture(put(tmp_path / "x.png", picture_with(vectors)))


@pytest.mark.parametrize("text", ["é", "bm8ganNvbg==", "W10=", "e30=", "*"])
def test_damaged_texts(tmp_path: Path, text: str) -> None:
    with pytest.raises(LoadFailed, match="damaged"):
        read_picture(put(tmp_path / "x.png", add_text(tiny_png(), {"sd-ti-embedding": text})))


def test_pictures_without_one(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match="no embedding inside"):
        read_picture(put(tmp_path / "x.png", tiny_png()))
    with pytest.raises(LoadFailed, match="no readable picture"):
        read_picture(put(tmp_path / "y.png", tiny_png()[:20]))
    assert not is_picture(put(tmp_path / "z.png", b"text"))
    with pytest.raises(LoadFailed, match="cannot be read"):
        is_picture(tmp_path / "gone.png")
