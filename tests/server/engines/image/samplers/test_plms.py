import pytest
import torch

from server.engines.image.guidance import Eps
from server.engines.image.samplers import SamplerRun
from server.engines.image.samplers.plms import plms
from tests.support.gaussian import ALPHAS, NoNoise, run_of, start

pytestmark = pytest.mark.torch


def test_the_first_step_asks_at_both_ends() -> None:
    run = SamplerRun(noise=NoNoise(), alphas_cumprod=ALPHAS, timesteps=(1, 334, 667, 999))
    assert run_of("plms", start(), run)[2] == [999, 667, 667, 334]


def test_constant_noise_makes_it_ddim() -> None:
    """Extrapolating what does not change changes nothing: the coefficients add up to 1."""

    class Constant:
        def eps(self, x: torch.Tensor, t: float) -> Eps:
            return Eps(torch.full_like(x, 0.4), torch.full_like(x, 0.4))

    from server.engines.image.samplers.ddim import ddim

    run = SamplerRun(noise=NoNoise(), alphas_cumprod=ALPHAS, timesteps=(1, 101, 201, 401, 601, 801, 999))
    ends = [list(sampler(Constant(), start(), run))[-1].x for sampler in (plms, ddim)]  # type: ignore[arg-type]
    assert torch.allclose(*ends, atol=1e-6)


@pytest.mark.parametrize(("length", "weights"), [(3, (3, -1, 2)), (4, (23, -16, 5, 12)), (5, (55, -59, 37, -9, 24))])
def test_adams_bashforth_weights(length: int, weights: tuple[int, ...]) -> None:
    """Noise that is not 0 in one call alone shows that call's weight in the last step."""
    times = tuple(1 + 100 * i for i in range(length))
    *numerators, divisor = weights
    for back, numerator in enumerate(numerators):
        calls: list[float] = []

        class Pulse:
            def eps(self, x: torch.Tensor, t: float, calls: list[float] = calls, back: int = back) -> Eps:
                calls.append(t)
                # Calls: the first step makes two, the second of them counts for that step alone.
                is_pulse = len(calls) == (length - back if back < length - 2 else 1)
                value = torch.full_like(x, 1.0 if is_pulse else 0.0)
                return Eps(value, value)

        run = SamplerRun(noise=NoNoise(), alphas_cumprod=ALPHAS, timesteps=times)
        steps = list(plms(Pulse(), start(), run))  # type: ignore[arg-type]
        before, after = steps[-2].x, steps[-1].x
        high, low = ALPHAS[times[1]], ALPHAS[times[0]]
        moved = after - low.sqrt() / high.sqrt() * before
        unit = (1 - low).sqrt() - low.sqrt() / high.sqrt() * (1 - high).sqrt()
        assert torch.allclose(moved / unit, torch.full_like(moved, numerator / divisor), atol=1e-3)
