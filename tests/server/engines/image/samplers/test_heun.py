import pytest
import torch

from server.engines.image.samplers import SamplerRun
from tests.support.gaussian import NoNoise, flow_error, geometric, noise, order_of, run_of, start

pytestmark = pytest.mark.torch


def test_second_order() -> None:
    assert 1.8 < order_of(flow_error("heun")) < 2.4


def test_one_step_to_zero_is_euler() -> None:
    run = SamplerRun(noise=NoNoise(), sigmas=torch.tensor([2.0, 0.0]))
    assert torch.equal(run_of("heun", start(2.0), run)[0], run_of("euler", start(2.0), run)[0])


def test_calls_stand_at_both_ends() -> None:
    sigmas = torch.tensor([4.0, 2.0, 0.0])
    assert run_of("heun", start(4.0), SamplerRun(noise=NoNoise(), sigmas=sigmas))[2] == [4.0, 2.0, 2.0]


def test_churn() -> None:
    calls = run_of("heun", start(10.0), SamplerRun(noise=noise(), sigmas=geometric(5), churn=1.0))[2]
    assert calls[::2] == pytest.approx([1.2 * sigma for sigma in geometric(5).tolist()[:-1]])
    assert calls[1::2] == pytest.approx(geometric(5).tolist()[1:])
