"""Wrappings of a network whose answers are known: the exact denoiser of normally distributed data."""

import pytest
import torch

from server.engines.image.denoisers import Condition, ConsistencyDenoiser, DiscreteDenoiser, Prediction
from server.engines.image.sigma_table import SigmaTable, alphas_cumprod

pytestmark = pytest.mark.torch

ALPHAS = alphas_cumprod()
NOTHING = Condition(torch.zeros(2, 77, 8))
X = torch.randn((2, 4, 8, 8), generator=torch.Generator().manual_seed(1))
SIGMA = torch.tensor([0.7, 5.0])
WIDE = SIGMA.reshape(-1, 1, 1, 1)


class Network:
    """Remembers what it was asked; answers eps or v for data that is 1 everywhere."""

    def __init__(self, prediction: Prediction) -> None:
        self.prediction = prediction
        self.asked: list[tuple[torch.Tensor, torch.Tensor]] = []

    def __call__(self, x: torch.Tensor, t: torch.Tensor, condition: Condition) -> torch.Tensor:
        self.asked.append((x, t))
        sigma = SigmaTable.of(ALPHAS).sigma(t.float()).reshape(-1, 1, 1, 1)
        signal, noise = 1 / (sigma**2 + 1) ** 0.5, sigma / (sigma**2 + 1) ** 0.5
        eps = (x - signal) / noise
        return eps if self.prediction == "eps" else signal * eps - noise * 1.0


@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_denoised_finds_the_data(prediction: Prediction) -> None:
    network = Network(prediction)
    denoised = DiscreteDenoiser(network, ALPHAS, prediction=prediction).denoised(X, SIGMA, NOTHING)
    assert torch.allclose(denoised, torch.ones_like(X), atol=1e-4)
    x, t = network.asked[0]
    assert torch.allclose(x, X / (WIDE**2 + 1) ** 0.5)
    assert torch.equal(t, SigmaTable.of(ALPHAS).t(SIGMA))


@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_eps_and_x0_agree(prediction: Prediction) -> None:
    denoiser = DiscreteDenoiser(Network(prediction), ALPHAS, prediction=prediction)
    t = torch.tensor([100.0, 900.0])
    eps = denoiser.eps(X, t, NOTHING)
    assert torch.allclose(denoiser.x0(X, eps, t), torch.ones_like(X), atol=1e-3)


def test_whole_times() -> None:
    network = Network("eps")
    DiscreteDenoiser(network, ALPHAS, quantise_times=True).denoised(X, SIGMA, NOTHING)
    assert network.asked[0][1].tolist() == SigmaTable.of(ALPHAS).t(SIGMA).round().tolist()


def test_half_precision_times() -> None:
    network = Network("eps")
    denoiser = DiscreteDenoiser(network, ALPHAS, time_dtype=torch.float16)
    denoiser.denoised(X, torch.tensor([11.7253685, 1.7634e0]), NOTHING)
    assert network.asked[0][1].dtype == torch.float16
    assert float(network.asked[0][1][0]) == 961.5


def test_consistency_scaling() -> None:
    network = Network("eps")
    denoiser = ConsistencyDenoiser(DiscreteDenoiser(network, ALPHAS), ALPHAS)
    denoised = denoiser.denoised(X, SIGMA, NOTHING)
    t = network.asked[0][1]
    assert set(t.tolist()) <= set(range(19, 1000, 20))
    tau = (t * 10).reshape(-1, 1, 1, 1)
    plain = X - WIDE * Network("eps")(X / (WIDE**2 + 1) ** 0.5, t, NOTHING)
    expected = tau / (tau**2 + 0.25) ** 0.5 * plain + 0.25 / (tau**2 + 0.25) * X
    assert torch.allclose(denoised, expected, atol=1e-5)


def test_conditions_are_sliced_and_joined() -> None:
    left = Condition(torch.zeros(2, 77, 8), torch.zeros(2, 3))
    right = Condition(torch.ones(1, 77, 8), torch.ones(1, 3))
    joined = left.joined(right)
    assert joined.text.shape == (3, 77, 8)
    assert joined.vector is not None
    assert joined.vector[:, 0].tolist() == [0, 0, 1]
    assert torch.equal(joined.rows(slice(2, 3)).text, right.text)
    assert NOTHING.joined(NOTHING).vector is None
