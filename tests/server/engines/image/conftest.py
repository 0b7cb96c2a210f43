"""A little checkpoint, written once, and loaded once for tests that leave it as it is."""

from pathlib import Path

import pytest
import torch

from server.engines.image import checkpoint
from tests.support.tiny_checkpoint import write_tiny_checkpoint

FLOAT32 = checkpoint.Precision(model=torch.float32, vae=torch.float32)


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SD1 checkpoint with random weights."""
    return write_tiny_checkpoint(tmp_path_factory.mktemp("tiny") / "tiny.safetensors")


@pytest.fixture(scope="session")
def tiny(tiny_path: Path) -> checkpoint.Checkpoint:
    """The checkpoint loaded in float32."""
    return checkpoint.load(
        tiny_path, precision=FLOAT32, vae_path=None, allow_pickle=False, report=lambda fraction: None
    )
