import pytest
import torch

from server.engines.image.samplers import SamplerRun
from tests.support.gaussian import Gaussian, NoNoise, flow_error, geometric, noise, order_of, run_of, start

pytestmark = pytest.mark.torch


def test_first_order() -> None:
    assert 0.8 < order_of(flow_error("euler")) < 1.3


def test_ancestral_without_noise_is_euler() -> None:
    sigmas = torch.cat([geometric(10), torch.zeros(1)])
    plain, _, _ = run_of("euler", start(10.0), SamplerRun(noise=NoNoise(), sigmas=sigmas))
    ancestral, _, _ = run_of("euler_a", start(10.0), SamplerRun(noise=NoNoise(), sigmas=sigmas, eta=0.0))
    assert torch.allclose(plain, ancestral, atol=1e-12)


def test_last_step_to_zero_lands_on_the_denoised() -> None:
    sigmas = torch.tensor([3.0, 1.0, 0.0])
    end, steps, _ = run_of("euler", start(3.0), SamplerRun(noise=NoNoise(), sigmas=sigmas))
    assert torch.allclose(end, steps[-1].denoised, atol=1e-12)


def test_a_large_eta_jumps_to_the_denoised_and_adds_all_noise() -> None:
    sigmas = torch.tensor([3.0, 1.0], dtype=torch.float64)
    source, x = noise(), start(3.0)
    end, _, _ = run_of("euler_a", x, SamplerRun(noise=source, sigmas=sigmas, eta=50.0))
    assert torch.allclose(end, Gaussian()(x, sigmas[0]) + noise().next(), atol=1e-12)


def churned(**settings: float) -> tuple[torch.Tensor, list[float]]:
    run = SamplerRun(noise=noise(), sigmas=geometric(5), **settings)
    end, _, calls = run_of("euler", start(10.0), run)
    return end, calls


def test_churn_raises_sigmas() -> None:
    plain, chosen = churned(churn=1.0)[1], geometric(5).tolist()[:-1]
    assert plain == pytest.approx([1.2 * sigma for sigma in chosen])


def test_churn_is_limited() -> None:
    assert churned(churn=100.0)[1] == pytest.approx([2**0.5 * sigma for sigma in geometric(5).tolist()[:-1]])


def test_churn_acts_between_its_ends() -> None:
    sigmas = geometric(5).tolist()[:-1]
    expected = [1.2 * sigma if 0.5 <= sigma <= 5 else sigma for sigma in sigmas]
    assert churned(churn=1.0, tmin=0.5, tmax=5.0)[1] == pytest.approx(expected)


def test_noise_scale_acts_with_churn_only() -> None:
    assert not torch.equal(churned(churn=1.0)[0], churned(churn=1.0, noise_scale=0.5)[0])
    assert torch.equal(churned()[0], churned(noise_scale=0.5)[0])


def test_a_draw_is_taken_for_steps_outside_churn() -> None:
    """Noise of a step does not depend on whether earlier steps used theirs."""
    source = noise()
    sigmas = torch.tensor([10.0, 1.0, 0.5], dtype=torch.float64)
    seen: list[torch.Tensor] = []

    def model(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        seen.append(x)
        return x

    from server.engines.image.samplers.euler import euler

    list(euler(model, start(), SamplerRun(noise=source, sigmas=sigmas, churn=0.2, tmax=5.0)))  # type: ignore[arg-type]
    again = noise()
    again.next()
    assert torch.allclose(seen[1], start() + again.next() * (1.1**2 - 1) ** 0.5)


def test_ancestral_ignores_the_noise_scale() -> None:
    ends = [
        run_of("euler_a", start(10.0), SamplerRun(noise=noise(), sigmas=geometric(5), noise_scale=scale))[0]
        for scale in (1.0, 0.3)
    ]
    assert torch.equal(*ends)
