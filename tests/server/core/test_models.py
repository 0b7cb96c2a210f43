"""Cards."""

import pytest

from server.core.models import ModelCard, ModelId, ModelKind, Runtime
from server.engines import LOADERS


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("deliberate_v2.safetensors", "deliberate_v2"),
        ("sub/deep/model.v1.gguf", "model.v1"),
        ("sub\\model.ckpt", "model"),
        ("bare", "bare"),
        ("sub.dir/bare", "bare"),
    ],
)
def test_stems(name: str, stem: str) -> None:
    assert ModelCard(id=ModelId("x"), name=name, kind=ModelKind.TEXT, files=()).stem == stem


def test_every_runtime_has_a_loader() -> None:
    assert set(LOADERS) == set(Runtime)
