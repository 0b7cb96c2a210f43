import pytest
import torch

from server.engines.image.samplers import SamplerRun
from tests.support.gaussian import NoNoise, flow_error, geometric, noise, order_of, run_of, start

pytestmark = pytest.mark.torch

ALL = ("dpmpp_sde", "dpmpp_2m_sde", "dpmpp_2m_sde_heun", "dpmpp_3m_sde")


@pytest.mark.parametrize("sampler", ALL)
def test_order_without_noise(sampler: str) -> None:
    assert 1.8 < order_of(flow_error(sampler, eta=0.0)) < 3.5


def test_third_order_beats_second() -> None:
    assert flow_error("dpmpp_3m_sde", eta=0.0)(20) < flow_error("dpmpp_2m_sde", eta=0.0)(20)


@pytest.mark.parametrize(("sampler", "plain"), [("dpmpp_2m_sde", "dpmpp_2m"), ("dpmpp_sde", "dpmpp_2s_a")])
def test_without_noise_it_is_the_flow_solver(sampler: str, plain: str) -> None:
    sigmas = torch.cat([geometric(10), torch.zeros(1)])
    run = SamplerRun(noise=NoNoise(), sigmas=sigmas, eta=0.0)
    assert torch.allclose(run_of(sampler, start(10.0), run)[0], run_of(plain, start(10.0), run)[0], atol=1e-9)


@pytest.mark.parametrize("sampler", ALL)
def test_more_steps_follow_the_same_noise(sampler: str) -> None:
    """Brownian noise belongs to sigmas: finer runs of one seed come together, runs of other seeds do not."""
    ends = {
        steps: run_of(sampler, start(10.0), SamplerRun(noise=noise(), sigmas=geometric(steps)))[0]
        for steps in (32, 64, 128)
    }
    other = run_of(sampler, start(10.0), SamplerRun(noise=noise(9), sigmas=geometric(128)))[0]
    coarse, fine = (float((ends[steps] - ends[2 * steps]).std()) for steps in (32, 64))
    assert fine < 0.85 * coarse
    assert fine < 0.3 * float((other - ends[128]).std())


@pytest.mark.parametrize("sampler", ALL)
def test_the_path_spans_the_whole_schedule(sampler: str) -> None:
    whole = geometric(10)
    alone = run_of(sampler, start(), SamplerRun(noise=noise(), sigmas=whole[5:]))[0]
    tail = run_of(sampler, start(), SamplerRun(noise=noise(), sigmas=whole[5:], schedule=whole))[0]
    assert not torch.allclose(alone, tail)


@pytest.mark.parametrize("sampler", ALL)
def test_noise_scale(sampler: str) -> None:
    silent = run_of(sampler, start(), SamplerRun(noise=noise(), sigmas=geometric(5), noise_scale=0.0))[0]
    other = run_of(sampler, start(), SamplerRun(noise=noise(9), sigmas=geometric(5), noise_scale=0.0))[0]
    loud = run_of(sampler, start(), SamplerRun(noise=noise(), sigmas=geometric(5)))[0]
    assert torch.equal(silent, other)
    assert not torch.equal(silent, loud)
