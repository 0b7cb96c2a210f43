import pytest
import torch

from server.engines.image.guidance import Eps
from server.engines.image.samplers import SamplerRun
from server.engines.image.samplers.ddim import ddim, ddim_cfgpp
from tests.support.gaussian import ALPHAS, NoNoise, noise, run_of, start

pytestmark = pytest.mark.torch

TIMES = (1, 334, 667, 999)


class Two:
    """Guided and unconditional noise that differ."""

    def __init__(self, unconditional: float) -> None:
        self.unconditional = unconditional

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        raise AssertionError("asked by sigma")

    def eps(self, x: torch.Tensor, t: float) -> Eps:
        return Eps(torch.full_like(x, 0.5), torch.full_like(x, self.unconditional))


def end_of(run: SamplerRun, sampler: str = "ddim") -> torch.Tensor:
    return run_of(sampler, start(), run)[0]


def test_calls_stand_at_the_times() -> None:
    run = SamplerRun(noise=NoNoise(), alphas_cumprod=ALPHAS, timesteps=TIMES)
    assert run_of("ddim", start(), run)[2] == [999, 667, 334]


def test_eta_adds_noise_of_the_generator() -> None:
    settings = {"alphas_cumprod": ALPHAS, "timesteps": TIMES}
    assert torch.equal(
        end_of(SamplerRun(noise=NoNoise(), **settings)), end_of(SamplerRun(noise=noise(), eta=0.0, **settings))
    )
    noisy = [end_of(SamplerRun(noise=noise(seed), eta=1.0, **settings)) for seed in (3, 4)]
    assert not torch.equal(*noisy)


def test_plus_steps_back_with_the_unconditional_noise() -> None:
    run = SamplerRun(noise=NoNoise(), alphas_cumprod=ALPHAS, timesteps=(1, 500))
    (step,) = ddim_cfgpp(Two(0.9), start(), run)
    high, low = ALPHAS[500], ALPHAS[1]
    picture = (start() - (1 - high).sqrt() * 0.5) / high.sqrt()
    assert torch.allclose(step.denoised, picture)
    assert torch.allclose(step.x, low.sqrt() * picture + (1 - low).sqrt() * 0.9)


def test_plus_without_guidance_is_ddim() -> None:
    run = SamplerRun(noise=NoNoise(), alphas_cumprod=ALPHAS, timesteps=TIMES)
    plus, plain = (list(sampler(Two(0.5), start(), run))[-1].x for sampler in (ddim_cfgpp, ddim))
    assert torch.equal(plus, plain)
