import hashlib
import os
import struct
from pathlib import Path

from compat.a1111.fingerprints import Fingerprints
from server.core.models import ModelCard, ModelKind
from tests.compat.a1111.asked import part


def written(path: Path, content: bytes, kind: ModelKind = ModelKind.LORA, **fields: object) -> ModelCard:
    path.write_bytes(content)
    return part(path.name, kind, files=(str(path),), **fields)


def test_a_lora_is_hashed_without_its_header(tmp_path: Path) -> None:
    body = b"tensors"
    one = written(tmp_path / "a.safetensors", struct.pack("<Q", 2) + b"{}" + body)
    other = written(tmp_path / "b.safetensors", struct.pack("<Q", 9) + b'{"a": 1} ' + body)
    expected = hashlib.sha256(body).hexdigest()[:12]
    prints = Fingerprints()
    assert prints.of(one) == prints.of(other) == expected


def test_a_lora_may_tell_its_hash(tmp_path: Path) -> None:
    card = written(tmp_path / "a.safetensors", b"", metadata={"sshs_model_hash": "0123456789abcdef"})
    assert Fingerprints().of(card) == "0123456789ab"


def test_other_files_are_hashed_whole_and_again_when_they_change(tmp_path: Path) -> None:
    file = tmp_path / "e.pt"
    card = written(file, b"one", ModelKind.EMBEDDING)
    prints = Fingerprints()
    assert prints.of(card) == hashlib.sha256(b"one").hexdigest()[:12]
    file.write_bytes(b"two")
    os.utime(file, ns=(1, 1))
    assert prints.of(card) == hashlib.sha256(b"two").hexdigest()[:12]


def test_unreadable_files_have_none(tmp_path: Path) -> None:
    prints = Fingerprints()
    assert prints.of(part("missing.safetensors")) is None
    assert prints.of(written(tmp_path / "short.safetensors", b"abc")) is None
