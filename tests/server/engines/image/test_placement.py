import pytest
import torch
from torch import nn

from server.core.errors import LoadFailed, OutOfMemory
from server.core.memory import RAM, vram
from server.core.models import ImageSettings
from server.engines.image.placement import Placement, choose, footprint, memory_errors, process_bytes
from tests.server.engines.image.conftest import FLOAT32

pytestmark = pytest.mark.torch

CPU = Placement(device=torch.device("cpu"), precision=FLOAT32)


def test_the_cpu_runs_in_float32_unless_told() -> None:
    found = choose(ImageSettings(device="cpu"), "medium")
    assert (found.precision.model, found.precision.vae) == (torch.float32, torch.float32)
    assert found.pool == RAM
    assert found.offload == "none"
    told = choose(ImageSettings(device="cpu", dtype="bfloat16", vae_dtype="float32"))
    assert (told.precision.model, told.precision.vae) == (torch.bfloat16, torch.float32)


def test_auto_is_a_device_that_is_there() -> None:
    found = choose(ImageSettings())
    assert torch.zeros(1, device=found.device).device.type == found.device.type


@pytest.mark.parametrize("name", ["abacus", "cuda:77", "xpu:9", "meta"])
def test_devices_that_are_not_there_are_refused(name: str) -> None:
    with pytest.raises(LoadFailed, match=name):
        choose(ImageSettings(device=name))


def test_unknown_dtypes_are_refused() -> None:
    with pytest.raises(LoadFailed, match="int8"):
        choose(ImageSettings(device="cpu", dtype="int8"))


def test_accelerators_draw_from_their_own_pool() -> None:
    for name, pool in (("cuda:1", vram(1)), ("xpu", vram(0)), ("mps", RAM)):
        assert Placement(device=torch.device(name), precision=FLOAT32).pool == pool


def test_footprint_counts_at_least_the_weights() -> None:
    module = nn.Linear(1000, 1000)
    base = 2 * process_bytes()
    found = footprint([module], CPU, widest=128, base=base)
    assert found.resident[RAM] == base + 1000 * 1001 * 4
    assert footprint([module], CPU, widest=128, base=0).resident[RAM] >= 1000 * 1001 * 4
    assert found.working[RAM] == 4 * 128 * 512 * 512 * 4


def test_memory_errors_are_the_cores_own() -> None:
    with pytest.raises(OutOfMemory) as caught, memory_errors(CPU):
        raise torch.OutOfMemoryError("no")
    assert caught.value.fact("device") == "cpu"
