import pytest
import torch

from server.engines.image.samplers import SamplerRun
from tests.support.gaussian import Gaussian, noise, run_of, start

pytestmark = pytest.mark.torch


def test_each_step_is_the_picture_with_noise_of_the_next_sigma() -> None:
    sigmas = torch.tensor([4.0, 1.0, 0.0], dtype=torch.float64)
    end, steps, calls = run_of("lcm", start(4.0), SamplerRun(noise=noise(), sigmas=sigmas))
    assert calls == [4.0, 1.0]
    between = Gaussian()(start(4.0), sigmas[0]) + 1.0 * noise().next()
    assert torch.allclose(steps[0].x, between)
    assert torch.allclose(end, Gaussian()(between, sigmas[1]))
