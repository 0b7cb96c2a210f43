"""Order, start and end of the samplers by time on the exact flow."""

import pytest
import torch

from server.engines.image.samplers import SamplerRun
from server.engines.image.samplers.by_time import signals
from tests.support.gaussian import ALPHAS, NoNoise, alpha_at, exact, order_of, run_of, start

pytestmark = pytest.mark.torch


TOP, BOTTOM = 900, 200
# Nearer to 0 even times are very uneven in ln sigma, and the last step's error hides the order of the others.


def times(steps: int) -> tuple[int, ...]:
    """Even whole times; steps divides 700."""
    return tuple(range(BOTTOM, TOP + 1, (TOP - BOTTOM) // steps))


def sigma_at(t: float) -> float:
    alpha = alpha_at(t)
    return float(((1 - alpha) / alpha) ** 0.5)


def error_of(sampler: str, steps: int) -> float:
    x = start()
    end, _, _ = run_of(sampler, x, SamplerRun(noise=NoNoise(), alphas_cumprod=ALPHAS, timesteps=times(steps)))
    spread = x / alpha_at(TOP) ** 0.5
    return float((end - exact(spread, sigma_at(TOP), sigma_at(BOTTOM)) * alpha_at(BOTTOM) ** 0.5).abs().max())


def test_ddim_is_of_first_order() -> None:
    assert 0.8 < order_of(lambda steps: error_of("ddim", steps), 35) < 1.5


def test_plms_is_of_second_order() -> None:
    assert order_of(lambda steps: error_of("plms", steps), 35) > 1.8


def test_plms_beats_ddim() -> None:
    assert error_of("plms", 70) < 0.3 * error_of("ddim", 70)


def test_one_step_less_than_times() -> None:
    run = SamplerRun(noise=NoNoise(), alphas_cumprod=ALPHAS, timesteps=(1, 334, 667, 999))
    assert [signal.time for signal in signals(run)] == [999, 667, 334]
    assert [float(signal.lower) for signal in signals(run)] == ALPHAS[[667, 334, 1]].tolist()
    assert len(run_of("ddim", start(), run)[1]) == 3


def test_spread_is_the_variance_eta_one_puts_back() -> None:
    run = SamplerRun(noise=NoNoise(), alphas_cumprod=ALPHAS, timesteps=(1, 500))
    (signal,) = signals(run)
    high, low = float(ALPHAS[500]), float(ALPHAS[1])
    assert signal.spread == pytest.approx(((1 - low) / (1 - high) * (1 - high / low)) ** 0.5, rel=1e-5)
    assert signal.sigma == pytest.approx(((1 - high) / high) ** 0.5, rel=1e-5)


def test_picture_behind_a_latent() -> None:
    run = SamplerRun(noise=NoNoise(), alphas_cumprod=ALPHAS, timesteps=(1, 500))
    (signal,) = signals(run)
    picture, eps = torch.full((1, 4, 2, 2), 0.3), torch.ones(1, 4, 2, 2)
    x = signal.alpha.sqrt() * picture + (1 - signal.alpha).sqrt() * eps
    assert torch.allclose(signal.x0(x, eps), picture, atol=1e-5)
