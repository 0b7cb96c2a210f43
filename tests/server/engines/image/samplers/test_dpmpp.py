import pytest
import torch

from server.engines.image.samplers import SamplerRun
from tests.support.gaussian import NoNoise, exact, flow_error, geometric, noise, order_of, run_of, start

pytestmark = pytest.mark.torch


def test_2m_is_of_second_order() -> None:
    assert 1.8 < order_of(flow_error("dpmpp_2m")) < 2.6


def test_2s_is_of_second_order() -> None:
    assert 1.8 < order_of(flow_error("dpmpp_2s_a", eta=0.0)) < 2.6


def test_2m_beats_euler() -> None:
    assert flow_error("dpmpp_2m")(20) < 0.25 * flow_error("euler")(20)


def test_first_and_last_step_of_2m_are_of_first_order() -> None:
    sigmas = torch.tensor([2.0, 0.0])
    run = SamplerRun(noise=NoNoise(), sigmas=sigmas)
    end, steps, _ = run_of("dpmpp_2m", start(2.0), run)
    assert torch.allclose(end, steps[0].denoised, atol=1e-12)
    longer, steps, _ = run_of("dpmpp_2m", start(4.0), SamplerRun(noise=NoNoise(), sigmas=torch.tensor([4.0, 2.0, 0.0])))
    assert torch.allclose(longer, steps[-1].denoised, atol=1e-12)


def test_2s_with_a_large_eta_steps_to_the_denoised() -> None:
    sigmas = torch.tensor([3.0, 1.0], dtype=torch.float64)
    end, steps, _ = run_of("dpmpp_2s_a", start(3.0), SamplerRun(noise=noise(), sigmas=sigmas, eta=50.0))
    assert torch.allclose(end, steps[0].denoised + noise().next(), atol=1e-12)


def test_a_constant_data_point_is_found_exactly() -> None:
    """With D constant the exponential integrators are exact, whatever the step."""

    class Point:
        def __call__(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
            return torch.full_like(x, 2.0)

    from server.engines.image.samplers.dpmpp import dpmpp_2m

    sigmas = geometric(2)
    steps = list(dpmpp_2m(Point(), start(10.0), SamplerRun(noise=NoNoise(), sigmas=sigmas)))  # type: ignore[arg-type]
    assert torch.allclose(steps[-1].x, 2.0 + (start(10.0) - 2.0) * float(sigmas[-1] / sigmas[0]), atol=1e-9)


def test_noise_scale_acts_on_2s() -> None:
    ends = [
        run_of("dpmpp_2s_a", start(10.0), SamplerRun(noise=noise(), sigmas=geometric(5), noise_scale=scale))[0]
        for scale in (1.0, 0.3)
    ]
    assert not torch.equal(*ends)


def test_ancestral_noise_keeps_the_flow_on_average() -> None:
    """Mean over many seeds of a noisy run lies near the noiseless one."""
    sigmas = geometric(30)
    x = start(10.0)
    ends = [run_of("dpmpp_2s_a", x, SamplerRun(noise=noise(seed), sigmas=sigmas))[0].mean() for seed in range(8)]
    assert abs(float(torch.stack(ends).mean()) - float(exact(x, 10.0, 0.1).mean())) < 0.1
