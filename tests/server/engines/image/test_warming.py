"""A spare worker has imported what loading and a picture need."""

import subprocess
import sys
from pathlib import Path

import pytest

from server.core.memory import MIB

pytest.importorskip("torch")

from tests.support.tiny_checkpoint import write_tiny_checkpoint

pytestmark = pytest.mark.torch

CODE = """
import sys
from server.core.models import ImageSettings, ModelCard, ModelId, ModelKind, Runtime
from server.engines.image.warming import warm
warmed = warm(1 << 24)
before = set(sys.modules)
card = ModelCard(id=ModelId("m"), name="m", kind=ModelKind.CHECKPOINT, files=(sys.argv[1],), runtime=Runtime.DIFFUSION)
engine = warmed.loader.load(card, ImageSettings(device="cpu", dtype="float32"), lambda _: None)
held = sum(engine.facts.footprint.resident.values())
engine.close()
print(held, warmed.held, sorted(set(sys.modules) - before))
"""


def test_a_load_imports_nothing_after_it(tmp_path: Path) -> None:
    file = tmp_path / "tiny.safetensors"
    write_tiny_checkpoint(file)
    root = Path(__file__).parents[4]
    done = subprocess.run([sys.executable, "-c", CODE, str(file)], cwd=root, check=True, capture_output=True, text=True)
    held, promised, imported = done.stdout.splitlines()[-1].split(maxsplit=2)
    assert imported == "[]"
    assert int(held) < int(promised) + 64 * MIB, "memory that was ready counts once"
