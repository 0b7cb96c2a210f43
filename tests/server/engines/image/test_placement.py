import pytest
import torch
from torch import nn

from server.core.errors import LoadFailed, OutOfMemory
from server.core.memory import RAM, vram
from server.core.models import ImageSettings
from server.engines.image.placement import Placement, choose, memory_errors, place, visiting
from tests.server.engines.image.conftest import FLOAT32

pytestmark = pytest.mark.torch

CPU = Placement(device=torch.device("cpu"), precision=FLOAT32)


def test_the_cpu_runs_in_float32_unless_told() -> None:
    found = choose(ImageSettings(device="cpu"), "medium", cpuinfo="flags : avx2 avx512f\n")
    assert (found.precision.model, found.precision.vae) == (torch.float32, torch.float32)
    assert found.pool == RAM
    assert found.offload == "none"
    told = choose(ImageSettings(device="cpu", dtype="bfloat16", vae_dtype="float32"))
    assert (told.precision.model, told.precision.vae) == (torch.bfloat16, torch.float32)


def test_a_cpu_that_multiplies_bfloat16_runs_in_it_unless_told() -> None:
    flags = "flags : avx2 avx512_bf16\n"
    found = choose(ImageSettings(device="cpu"), cpuinfo=flags).precision
    assert (found.model, found.vae) == (torch.bfloat16, torch.bfloat16)
    found = choose(ImageSettings(device="cpu", vae_dtype="float32"), cpuinfo=flags).precision
    assert (found.model, found.vae) == (torch.bfloat16, torch.float32)
    found = choose(ImageSettings(device="cpu", dtype="float32"), cpuinfo=flags).precision
    assert (found.model, found.vae) == (torch.float32, torch.float32)


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


class Model:
    """A model of two parts, as far as its place is concerned."""

    def __init__(self) -> None:
        self.text, self.unet = nn.Linear(1, 1), nn.Linear(1, 1)

    def modules(self) -> tuple[nn.Module, ...]:
        return (self.text, self.unet)


def test_a_model_is_brought_to_its_device_or_waits_for_its_turn() -> None:
    moved: list[nn.Module] = []

    def moving(module: nn.Module, device: torch.device) -> None:
        moved.append(module)

    model = Model()
    place(model, Placement(device=torch.device("meta"), precision=FLOAT32, moving=moving))
    assert moved == [model.text, model.unet]
    moved.clear()
    turns = Placement(device=torch.device("meta"), precision=FLOAT32, offload="medium", moving=moving)
    place(model, turns)
    assert moved == []
    with visiting(model.unet, turns):
        assert moved == [model.unet]


def test_memory_errors_are_the_cores_own() -> None:
    with pytest.raises(OutOfMemory) as caught, memory_errors(CPU):
        raise torch.OutOfMemoryError("no")
    assert caught.value.fact("device") == "cpu"
