import pytest
import torch

from server.core.image import NoiseSource as NoiseKind
from server.engines.image.generators import stream

pytestmark = pytest.mark.torch

CPU = torch.device("cpu")


def test_device_source_on_a_cpu_is_the_cpu_source() -> None:
    assert torch.equal(stream("device", 5, CPU).normal((4, 8, 8)), stream("cpu", 5, CPU).normal((4, 8, 8)))


def test_only_cuda_draws_on_the_device() -> None:
    """Other accelerators have generators of their own, which A1111 does not use."""
    drawn = stream("device", 5, torch.device("meta")).normal((4, 8, 8))
    assert torch.equal(drawn, stream("cpu", 5, CPU).normal((4, 8, 8)))


@pytest.mark.parametrize("kind", ["device", "cpu", "philox"])
def test_streams_go_on_and_leave_torch_alone(kind: NoiseKind) -> None:
    before = torch.get_rng_state()
    drawn = stream(kind, 5, CPU)
    assert not torch.equal(drawn.normal((4, 8, 8)), drawn.normal((4, 8, 8)))
    assert torch.equal(torch.get_rng_state(), before)
