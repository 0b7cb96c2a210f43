"""A checkpoint tells of each job what it took and what it left behind."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from server.core.image import Denoise, ImageRequest, LoraRef, Seeds, Size
from server.core.jobs import JobDone, JobId
from server.core.memory import MIB, RAM
from server.core.models import ImageSettings
from server.core.prompt import plain
from server.engines.image.diffusion import DiffusionEngine, DiffusionLoader
from tests.support.golden_images import card_of
from tests.support.tiny_checkpoint import CHANNELS, write_tiny_checkpoint

pytestmark = [pytest.mark.torch, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DiffusionEngine]:
    path = write_tiny_checkpoint(tmp_path_factory.mktemp("tiny") / "tiny.safetensors")
    engine = DiffusionLoader().load(
        card_of(path), ImageSettings(device="cpu", dtype="float32", threads=1), lambda _: None
    )
    assert isinstance(engine, DiffusionEngine)
    yield engine
    engine.close()


def done(engine: DiffusionEngine, side: int, **fields: Any) -> JobDone:
    request = ImageRequest(
        model="tiny",
        prompt=plain("a cat"),
        negative=plain(""),
        size=Size(side, side),
        seeds=Seeds(first=1),
        denoise=Denoise(sampler="euler", steps=1),
        **fields,
    )
    engine.submit(JobId("job"), request)
    while not engine.is_idle():
        for outcome in engine.step():
            if isinstance(outcome, JobDone):
                return outcome
    raise AssertionError("the job did not end well")


FIRST_JOBS = """
import sys
from pathlib import Path
from server.core.image import Size
from server.core.image_memory import job_bytes
from server.core.memory import RAM
from server.core.models import ImageSettings
from server.engines.image.diffusion import DiffusionLoader
from tests.engines.test_job_memory import done
from tests.support.golden_images import card_of
settings = ImageSettings(device="cpu", dtype="float32", threads=1)
engine = DiffusionLoader().load(card_of(Path(sys.argv[1])), settings, lambda _: None)
for side in (64, 128, 256, 512):
    taken = done(engine, side).taken[RAM]
    print(side, taken, job_bytes(engine._room.workload(Size(side, side), 2), tiles=False))
"""


def test_the_estimate_is_no_less_than_what_jobs_take_and_no_more_than_twice(tmp_path: Path) -> None:
    """In a process of its own, for what earlier jobs have left behind would count or be used again."""
    path = write_tiny_checkpoint(tmp_path / "tiny.safetensors")
    command = [sys.executable, "-c", FIRST_JOBS, str(path)]
    root = Path(__file__).parents[2]
    ran = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
    rows = [tuple(map(int, line.split())) for line in ran.stdout.splitlines()]
    assert [side for side, _, _ in rows] == [64, 128, 256, 512]
    for side, taken, estimated in rows:
        assert taken <= estimated <= 2 * taken, f"{side}: took {taken / MIB:.0f}, expected {estimated / MIB:.0f} MiB"


def test_a_larger_picture_takes_more_and_leaves_nothing_behind(engine: DiffusionEngine) -> None:
    done(engine, 64)  # the first job of a process makes tables and buffers that stay
    small, large = done(engine, 64), done(engine, 512)
    assert large.taken[RAM] > small.taken[RAM] + 4 * MIB
    assert small.held == large.held == engine.facts.footprint.resident


def test_originals_that_wait_for_a_merged_lora_count_until_they_are_back(
    engine: DiffusionEngine, tmp_path: Path
) -> None:
    name = "lora_unet_mid_block_attentions_0_proj_in"
    up, down = torch.ones(CHANNELS, 2), torch.ones(2, CHANNELS)
    save_file({f"{name}.lora_up.weight": up, f"{name}.lora_down.weight": down}, str(tmp_path / "x.safetensors"))
    before = done(engine, 64).held[RAM]
    merged = done(engine, 64, adapters=(LoraRef(name="x", path=str(tmp_path / "x.safetensors")),)).held[RAM]
    assert merged == before + 2 * CHANNELS * CHANNELS, "in the file's half precision"
    assert done(engine, 64).held[RAM] == before
