from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from server.core.errors import LoadFailed
from server.core.image import EmbeddingRef
from server.engines.image.chunks import Found
from server.engines.image.clip.tokenizer import ClipTokenizer, load_tokenizer
from server.engines.image.embeddings import Embedding, EmbeddingIndex, EmbeddingShelf, read_vectors

pytestmark = pytest.mark.torch

WIDTH = 16


@pytest.fixture(scope="module")
def tokenizer() -> ClipTokenizer:
    return load_tokenizer()


def written(path: Path, count: int = 3, width: int = WIDTH) -> EmbeddingRef:
    save_file({"emb_params": torch.arange(float(count * width)).reshape(count, width)}, str(path))
    return EmbeddingRef(name=path.stem, path=str(path))


def test_files_of_all_kinds_hold_the_same_vectors(tmp_path: Path) -> None:
    vectors = torch.arange(32.0).reshape(2, WIDTH)
    save_file({"emb_params": vectors}, str(tmp_path / "a.safetensors"))
    torch.save({"string_to_token": {"*": 265}, "string_to_param": {"*": vectors}, "name": "b"}, tmp_path / "b.pt")
    torch.save({"<b>": vectors}, tmp_path / "c.bin")
    torch.save(vectors, tmp_path / "d.bin")
    for name in ("a.safetensors", "b.pt", "c.bin", "d.bin"):
        (found,) = read_vectors(tmp_path / name, allow_pickle=True)
        assert torch.equal(found, vectors), name


def test_a_single_vector_may_be_flat(tmp_path: Path) -> None:
    save_file({"x": torch.ones(WIDTH, dtype=torch.float16)}, str(tmp_path / "a.safetensors"))
    (found,) = read_vectors(tmp_path / "a.safetensors", allow_pickle=False)
    assert found.shape == (1, WIDTH)
    assert found.dtype == torch.float32


@pytest.mark.parametrize(
    "tensors",
    [
        {"clip_l": torch.ones(1, 4), "other": torch.ones(1, 4)},
        {"clip_l": torch.ones(1, 4), "clip_g": torch.ones(1, 4, 4)},
        {"x": torch.ones(1, 2, 3)},
        {"x": torch.ones(0, 4)},
        {},
    ],
)
def test_other_files_are_refused(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    save_file(tensors, str(tmp_path / "x.safetensors"))
    with pytest.raises(LoadFailed, match="no single list"):
        read_vectors(tmp_path / "x.safetensors", allow_pickle=False)


def test_vectors_for_both_encoders_of_sdxl_come_in_their_order(tmp_path: Path, tokenizer: ClipTokenizer) -> None:
    tensors = {"clip_g": torch.full((2, 5), 2.0), "clip_l": torch.full((2, 3), 1.0)}
    save_file(tensors, str(tmp_path / "zqx.safetensors"))
    torch.save(tensors, tmp_path / "vwk.pt")
    refs = [EmbeddingRef(name=name[:3], path=str(tmp_path / name)) for name in ("zqx.safetensors", "vwk.pt")]
    found, _ = EmbeddingShelf(tokenizer, (3, 5), allow_pickle=True).take(refs, "zqx vwk")
    assert [[part[0, 0].item() for part in each.parts] for each in found] == [[1.0, 2.0]] * 2
    for widths in ((3,), (5,), (5, 3)):
        _, notes = EmbeddingShelf(tokenizer, widths, allow_pickle=True).take(refs, "zqx")
        assert "3 + 5 values" in notes[0]


def test_both_encoders_need_as_many_vectors(tmp_path: Path) -> None:
    save_file({"clip_l": torch.ones(1, 3), "clip_g": torch.ones(2, 5)}, str(tmp_path / "x.safetensors"))
    with pytest.raises(LoadFailed, match="another number"):
        read_vectors(tmp_path / "x.safetensors", allow_pickle=False)


def test_the_longest_name_is_found_first() -> None:
    short, long = Embedding("ab", (1, 2), (torch.ones(4, 2),)), Embedding("abc", (1, 2, 3), (torch.ones(5, 2),))
    index = EmbeddingIndex([short, long])
    assert index.find([9, 1, 2, 3], 1) == Found("abc", 3, 5)
    assert index.find([1, 2, 9], 0) == Found("ab", 2, 4)
    assert index.find([1, 9], 0) is None
    assert index.find([2], 0) is None


def test_only_what_is_mentioned_is_taken(tmp_path: Path, tokenizer: ClipTokenizer) -> None:
    shelf = EmbeddingShelf(tokenizer, (WIDTH,), allow_pickle=False)
    refs = [written(tmp_path / "zqx.safetensors"), written(tmp_path / "vwk.safetensors")]
    found, notes = shelf.take(refs, "a ZQX cat")
    assert [each.name for each in found] == ["zqx"]
    assert found[0].ids == tuple(tokenizer.ids("zqx"))
    assert notes == []


def test_a_changed_file_is_read_again(tmp_path: Path, tokenizer: ClipTokenizer) -> None:
    import os

    shelf = EmbeddingShelf(tokenizer, (WIDTH,), allow_pickle=False)
    ref = written(tmp_path / "zqx.safetensors")
    once = shelf.take([ref], "zqx")[0][0]
    assert shelf.take([ref], "zqx")[0][0] is once
    written(tmp_path / "zqx.safetensors", count=5)
    os.utime(ref.path, (1, 1))
    assert shelf.take([ref], "zqx")[0][0].count == 5


def test_what_cannot_be_used_is_noted(tmp_path: Path, tokenizer: ClipTokenizer) -> None:
    shelf = EmbeddingShelf(tokenizer, (WIDTH,), allow_pickle=False)
    torch.save(torch.ones(1, WIDTH), tmp_path / "pickled.pt")
    refs = [
        written(tmp_path / "wide.safetensors", width=2 * WIDTH),
        written(tmp_path / "many.safetensors", count=76),
        EmbeddingRef(name="pickled", path=str(tmp_path / "pickled.pt")),
        EmbeddingRef(name="gone", path=str(tmp_path / "gone.pt")),
    ]
    found, notes = shelf.take(refs, "wide many pickled gone")
    assert found == []
    for note, ref, word in zip(notes, refs, ("32 values", "76 vectors", "pickle", "gone"), strict=True):
        assert ref.name in note
        assert word in note
