"""A spare worker has imported what loading and a picture need."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

from tests.support.tiny_checkpoint import write_tiny_checkpoint

pytestmark = pytest.mark.torch

CODE = """
import sys
from server.core.models import ImageSettings, ModelCard, ModelId, ModelKind, Runtime
from server.engines.image.warming import warm
warm()
before = set(sys.modules)
from server.engines.image.diffusion import DiffusionLoader
card = ModelCard(id=ModelId("m"), name="m", kind=ModelKind.CHECKPOINT, files=(sys.argv[1],), runtime=Runtime.DIFFUSION)
DiffusionLoader().load(card, ImageSettings(device="cpu", dtype="float32"), lambda _: None).close()
print(sorted(set(sys.modules) - before))
"""


def test_a_load_imports_nothing_after_it(tmp_path: Path) -> None:
    file = tmp_path / "tiny.safetensors"
    write_tiny_checkpoint(file)
    root = Path(__file__).parents[4]
    done = subprocess.run([sys.executable, "-c", CODE, str(file)], cwd=root, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"
