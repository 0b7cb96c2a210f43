import pytest
import torch

from server.engines.image.samplers import SamplerRun
from tests.support.gaussian import NoNoise, flow_error, geometric, noise, order_of, run_of, start

pytestmark = pytest.mark.torch


def test_second_order() -> None:
    assert 1.8 < order_of(flow_error("dpm2")) < 2.4


def test_middle_call_is_the_geometric_mean() -> None:
    sigmas = torch.tensor([8.0, 2.0, 0.0])
    calls = run_of("dpm2", start(8.0), SamplerRun(noise=NoNoise(), sigmas=sigmas))[2]
    assert calls == pytest.approx([8.0, 4.0, 2.0])


def test_ancestral_without_noise_is_dpm2() -> None:
    sigmas = torch.cat([geometric(10), torch.zeros(1)])
    plain, _, _ = run_of("dpm2", start(10.0), SamplerRun(noise=NoNoise(), sigmas=sigmas))
    ancestral, _, _ = run_of("dpm2_a", start(10.0), SamplerRun(noise=NoNoise(), sigmas=sigmas, eta=0.0))
    assert torch.allclose(plain, ancestral, atol=1e-12)


def test_noise_scale_acts_on_ancestral_noise() -> None:
    ends = [
        run_of("dpm2_a", start(10.0), SamplerRun(noise=noise(), sigmas=geometric(5), noise_scale=scale))[0]
        for scale in (1.0, 0.3)
    ]
    assert not torch.equal(*ends)
