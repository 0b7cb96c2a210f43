import pytest
import torch

from server.core.errors import InvalidValue
from server.engines.image.samplers import SamplerRun
from tests.support.gaussian import ALPHAS, NoNoise, alpha_at, exact, order_of, run_of, start

pytestmark = pytest.mark.torch


def sigma_at(t: float) -> float:
    alpha = alpha_at(t)
    return float(((1 - alpha) / alpha) ** 0.5)


def run_with(times: tuple[int, ...], *, resumed: bool = False) -> SamplerRun:
    return SamplerRun(noise=NoNoise(), alphas_cumprod=ALPHAS, timesteps=times, resumed=resumed)


def error(steps: int) -> float:
    """The error half-way down: nearer to 0 even times are very uneven in ln sigma, which hides the order."""
    x = start()
    _, made, _ = run_of("unipc", x, run_with((*range(steps - 1), 600), resumed=True))
    spread = x / alpha_at(600) ** 0.5
    return float(
        (made[steps // 2 - 1].x - exact(spread, sigma_at(600), sigma_at(300)) * alpha_at(300) ** 0.5).abs().max()
    )


def test_order_of_most_steps() -> None:
    assert order_of(error, 12) > 2.5


def test_its_end_is_better_than_ddim_is() -> None:
    x = start()
    run = run_with(tuple(range(1, 1000, 20)), resumed=True)
    spread = x / alpha_at(run.timesteps[-1]) ** 0.5
    errors = []
    for sampler, last in (("unipc", 0), ("ddim", run.timesteps[0])):
        expected = exact(spread, sigma_at(run.timesteps[-1]), sigma_at(last)) * alpha_at(last) ** 0.5
        errors.append(float((run_of(sampler, x, run)[0] - expected).abs().max()))
    assert errors[0] < errors[1]


def test_times_are_even_and_the_last_point_is_not_asked() -> None:
    _, steps, calls = run_of("unipc", start(), run_with(tuple(range(1, 1000, 100))))
    assert calls == pytest.approx([999 - 99.9 * i for i in range(10)], abs=1e-2)
    assert len(steps) == 10


def test_resumed_runs_begin_at_the_last_time() -> None:
    _, _, calls = run_of("unipc", start(), run_with((1, 101, 201, 301), resumed=True))
    assert calls[0] == pytest.approx(301, abs=1e-3)
    assert len(calls) == 4


@pytest.mark.parametrize("count", [0, 1, 2])
def test_fewer_steps_than_its_order(count: int) -> None:
    with pytest.raises(InvalidValue, match="at least 3"):
        run_of("unipc", start(), run_with(tuple(range(1, 1 + count))))


def test_three_steps_are_enough() -> None:
    end, steps, _ = run_of("unipc", start(), run_with((1, 334, 667)))
    assert len(steps) == 3
    assert bool(end.isfinite().all())
    assert torch.equal(steps[-1].x, end)
