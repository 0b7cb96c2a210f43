from pathlib import Path

import pytest

from server.core.models import ModelKind
from server.http.png import add_text
from server.registry.folders import walk
from server.registry.probe.base import BrokenModel, NotMine
from server.registry.probe.identify import identify
from tests.support.fake_images import tiny_png
from tests.support.picture_embedding import picture_with


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(("name", "told"), [("my-style", {"embedding.name": "my-style"}), (None, {}), ("", {})])
def test_an_embedding_tells_its_name(tmp_path: Path, name: str | None, told: dict[str, str]) -> None:
    path = put(tmp_path / "x.png", picture_with([[1.0]], name))
    found = identify(path, ModelKind.EMBEDDING, allow_pickle=False)
    assert (found.kind, found.metadata, found.broken) == (ModelKind.EMBEDDING, told, None)


@pytest.mark.parametrize("data", [tiny_png(), tiny_png()[:30], add_text(tiny_png(), {"parameters": "a cat"})])
def test_ordinary_pictures_are_no_models(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(NotMine):
        identify(put(tmp_path / "x.png", data), ModelKind.EMBEDDING, allow_pickle=False)


@pytest.mark.parametrize("text", ["*", "bm8ganNvbg==", "W10="])
def test_damaged_embeddings(tmp_path: Path, text: str) -> None:
    path = put(tmp_path / "x.png", add_text(tiny_png(), {"sd-ti-embedding": text}))
    with pytest.raises(BrokenModel):
        identify(path, ModelKind.EMBEDDING, allow_pickle=False)


def test_pictures_are_looked_at_among_embeddings_alone(tmp_path: Path) -> None:
    for folder in ("embeddings", "Lora"):
        (tmp_path / folder).mkdir()
        put(tmp_path / folder / "x.png", picture_with([[1.0]]))
    assert [getattr(entry, "kind", None) for entry in walk([tmp_path])] == [ModelKind.EMBEDDING]
