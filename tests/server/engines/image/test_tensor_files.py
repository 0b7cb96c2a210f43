import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from server.core.errors import LoadFailed
from server.engines.image.tensor_files import is_pickle, open_tensors

pytestmark = pytest.mark.torch

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.float16)}


class Trap:
    """What a hostile pickle holds: unpickling it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


def read(path: Path, *, allow_pickle: bool = False) -> dict[str, torch.Tensor]:
    with open_tensors(path, allow_pickle=allow_pickle) as opened:
        assert opened.shapes == {name: tuple(opened.get(name).shape) for name in opened.shapes}
        return {name: opened.get(name).clone() for name in opened.shapes}


def assert_tensors(found: dict[str, torch.Tensor]) -> None:
    assert set(found) == set(TENSORS)
    for name, tensor in TENSORS.items():
        assert torch.equal(found[name], tensor)
        assert found[name].dtype == tensor.dtype


def test_safetensors(tmp_path: Path) -> None:
    save_file(TENSORS, str(tmp_path / "x.safetensors"))
    assert_tensors(read(tmp_path / "x.safetensors"))


def test_the_content_decides_and_not_the_name(tmp_path: Path) -> None:
    save_file(TENSORS, str(tmp_path / "x.ckpt"))
    assert_tensors(read(tmp_path / "x.ckpt"))
    torch.save(TENSORS, tmp_path / "y.SafeTensors")
    with pytest.raises(LoadFailed, match="pickle"):
        read(tmp_path / "y.SafeTensors")


def test_every_header_length_is_still_safetensors(tmp_path: Path) -> None:
    """The length of a header may begin with the bytes that a pickle or zip archive begins with."""
    for length in (0x80, 0x4B50):
        body = b'{"__metadata__":{"pad":"' + b"x" * (length - 27) + b'"}}'
        assert len(body) == length
        path = tmp_path / f"{length}.safetensors"
        path.write_bytes(length.to_bytes(8, "little") + body)
        assert not is_pickle(path)
        assert read(path) == {}


@pytest.mark.parametrize("nested", [False, True])
def test_pickles_when_allowed(tmp_path: Path, nested: bool) -> None:
    path = tmp_path / "x.ckpt"
    torch.save({"state_dict": TENSORS, "epoch": 3} if nested else TENSORS, path)
    with pytest.raises(LoadFailed, match="allow"):
        read(path)
    assert_tensors(read(path, allow_pickle=True))


@pytest.mark.parametrize("zipped", [False, True])
def test_hostile_pickles_run_nothing(tmp_path: Path, zipped: bool) -> None:
    path, mark = tmp_path / "x.ckpt", tmp_path / "was-here"
    if zipped:
        torch.save({"state_dict": Trap(mark)}, path)
    else:
        path.write_bytes(pickle.dumps(Trap(mark), protocol=2))
    for allow in (False, True):
        with pytest.raises(LoadFailed):
            read(path, allow_pickle=allow)
    assert not mark.exists()


@pytest.mark.parametrize("content", [b"", b"\x08\0\0\0\0\0\0\0{broken}", b"PK\x03\x04rubbish", b"\x80", b"GIF89a" * 9])
def test_damaged_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(LoadFailed, match=r"x\.safetensors"):
        read(path, allow_pickle=True)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match="cannot be read"):
        read(tmp_path / "none.safetensors")
