from itertools import pairwise

import pytest
import torch

from server.core.errors import Broken
from server.engines.image.samplers import SamplerRun
from server.engines.image.samplers.dpm_solver import call_orders, dpm_adaptive
from tests.support.gaussian import NoNoise, exact, geometric, noise, order_of, run_of, start

pytestmark = pytest.mark.torch

RANGE = (0.1, 10.0)


@pytest.mark.parametrize("calls", range(1, 40))
def test_orders_make_the_calls(calls: int) -> None:
    orders = call_orders(calls)
    assert sum(orders) == calls
    assert len(orders) == calls // 3 + 1
    assert set(orders[:-2]) <= {3}


def fast_error(calls: int) -> float:
    x = start(10.0)
    run = SamplerRun(noise=NoNoise(), sigma_range=RANGE, steps=calls, eta=0.0)
    return float((run_of("dpm_fast", x, run)[0] - exact(x, 10.0, 0.1)).abs().max())


def test_fast_is_at_least_of_second_order() -> None:
    assert order_of(fast_error, 31) > 2.0


@pytest.mark.parametrize("calls", [1, 2, 3, 4, 10, 20])
def test_fast_makes_as_many_calls_as_steps(calls: int) -> None:
    run = SamplerRun(noise=noise(), sigma_range=RANGE, steps=calls)
    _, steps, made = run_of("dpm_fast", start(10.0), run)
    assert len(made) == calls
    assert made[0] == pytest.approx(10.0)
    assert len(steps) == calls // 3 + 1


def test_range_and_calls_come_from_the_sigmas_where_not_given() -> None:
    sigmas = torch.cat([geometric(7), torch.zeros(1)])
    given = run_of("dpm_fast", start(10.0), SamplerRun(noise=noise(), sigma_range=RANGE, steps=8))[0]
    derived = run_of("dpm_fast", start(10.0), SamplerRun(noise=noise(), sigmas=sigmas))[0]
    assert torch.allclose(given, derived, atol=1e-4)


def test_adaptive_is_accurate_and_ends_at_the_least_sigma() -> None:
    x = start(10.0)
    end, steps, _ = run_of("dpm_adaptive", x, SamplerRun(noise=NoNoise(), sigma_range=RANGE, eta=0.0))
    assert float((end - exact(x, 10.0, 0.1)).abs().max()) < 0.1
    assert 4 < len(steps) < 30


def test_adaptive_takes_longer_steps_as_it_learns() -> None:
    _, steps, _ = run_of("dpm_adaptive", start(10.0), SamplerRun(noise=NoNoise(), sigma_range=RANGE, eta=0.0))
    ratios = [a.sigma / b.sigma for a, b in pairwise(steps)]
    assert ratios[0] == pytest.approx(1.05, abs=0.01)
    assert max(ratios) > 1.2


def test_fast_ignores_nothing_of_the_noise_scale() -> None:
    ends = [
        run_of("dpm_fast", start(10.0), SamplerRun(noise=noise(), sigma_range=RANGE, steps=9, noise_scale=scale))[0]
        for scale in (1.0, 0.3)
    ]
    assert not torch.equal(*ends)


def test_a_model_that_answers_nonsense_ends_the_run() -> None:
    class Nonsense:
        def __call__(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
            return x * float("nan")

    with pytest.raises(Broken, match="not finite"):
        list(dpm_adaptive(Nonsense(), start(), SamplerRun(noise=noise(), sigma_range=RANGE)))  # type: ignore[arg-type]
