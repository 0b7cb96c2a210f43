from itertools import pairwise

import pytest
import torch

from server.core.image import Denoise
from server.engines.image.samplers import SamplerRun
from server.engines.image.samplers.restart import restart_plan
from server.engines.image.schedules import sigmas
from tests.support.gaussian import TABLE, NoNoise, noise, run_of, start

pytestmark = pytest.mark.torch


def karras(steps: int) -> torch.Tensor:
    return sigmas(TABLE, Denoise(schedule="karras"), steps)


def rises(steps: int) -> list[tuple[float, float]]:
    """(sigma reached, sigma gone back to) of every restart."""
    plan = restart_plan(karras(steps))
    return [(float(a[1]), float(b[0])) for a, b in pairwise(plan) if b[0] > a[1]]


@pytest.mark.parametrize(("steps", "times"), [(19, 0), (20, 1), (35, 1), (36, 2), (60, 2)])
def test_number_of_restarts(steps: int, times: int) -> None:
    assert len(rises(steps)) == times


@pytest.mark.parametrize("steps", [1, 10, 19, 20, 27, 36, 50, 100])
def test_restarts_come_out_of_the_given_steps(steps: int) -> None:
    plan = restart_plan(karras(steps))
    assert len(plan) == steps
    assert plan[0][0] == karras(steps)[0]
    assert plan[-1][1] == 0


@pytest.mark.parametrize("steps", [20, 36, 50])
def test_restarts_go_from_about_a_tenth_to_about_two(steps: int) -> None:
    for low, high in rises(steps):
        assert 0.05 < low < 0.2
        assert 1.2 < high < 3.2


def test_few_steps_are_heun() -> None:
    run = SamplerRun(noise=NoNoise(), sigmas=karras(10))
    assert torch.equal(run_of("restart", start(14.6), run)[0], run_of("heun", start(14.6), run)[0])


def test_a_narrow_schedule_is_not_restarted() -> None:
    low = torch.cat([torch.linspace(0.09, 0.01, 25), torch.zeros(1)])
    plan = restart_plan(low)
    assert all(b[0] <= a[1] for a, b in pairwise(plan))


def test_one_draw_a_restart() -> None:
    source = noise()
    run_of("restart", start(14.6), SamplerRun(noise=source, sigmas=karras(40)))
    again = noise()
    again.next()
    again.next()
    assert torch.equal(source.next(), again.next())
