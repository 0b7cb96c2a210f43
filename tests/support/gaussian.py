"""A model whose every answer is known: for normally distributed data D, eps and the flow have closed forms.

Computed in float64, so that tests can see the order of a sampler's error.
"""

from collections.abc import Callable

import torch

from server.core.image import Seeds
from server.engines.image.brownian import BrownianNoise
from server.engines.image.guidance import Eps
from server.engines.image.samplers import SAMPLERS, SamplerRun, Step
from server.engines.image.schedules import SigmaTable, alphas_cumprod
from server.engines.image.seeds import NoiseSource

MEAN = 0.7
DEVIATION = 0.5
ALPHAS = alphas_cumprod()
TABLE = SigmaTable.of(ALPHAS)


class Gaussian:
    """Data N(MEAN, DEVIATION^2). `calls` holds the sigma or time of every call."""

    def __init__(self) -> None:
        self.calls: list[float] = []

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        self.calls.append(float(sigma))
        variance = DEVIATION**2
        return (variance * x + sigma.double() ** 2 * MEAN) / (variance + sigma.double() ** 2)

    def eps(self, x: torch.Tensor, t: float) -> Eps:
        self.calls.append(t)
        alpha = alpha_at(t)
        sigma = ((1 - alpha) / alpha) ** 0.5
        spread = x / alpha**0.5
        denoised = (DEVIATION**2 * spread + sigma**2 * MEAN) / (DEVIATION**2 + sigma**2)
        eps = (spread - denoised) / sigma
        return Eps(eps, eps)


class NoNoise:
    """A source that must not be drawn from."""

    def next(self) -> torch.Tensor:
        raise AssertionError("this sampler draws no noise")

    def brownian(self, sigma_min: float, sigma_max: float) -> BrownianNoise:
        raise AssertionError("this sampler draws no noise")


def alpha_at(t: float) -> torch.Tensor:
    """The signal share at a fractional time, ln alpha linear between table times."""
    logs = ALPHAS.double().log()
    below = min(max(int(t), 0), len(logs) - 2)
    return (logs[below] + (t - below) * (logs[below + 1] - logs[below])).exp()


def exact(x: torch.Tensor, sigma_from: float, sigma_to: float) -> torch.Tensor:
    """Where the probability flow takes x."""
    return MEAN + (x - MEAN) * ((DEVIATION**2 + sigma_to**2) / (DEVIATION**2 + sigma_from**2)) ** 0.5


def start(sigma: float = 1.0) -> torch.Tensor:
    drawn = torch.randn((1, 4, 8, 8), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return drawn * sigma


def noise(seed: int = 3, side: int = 8) -> NoiseSource:
    """A source of float64 noise that has given its first draw."""
    source = NoiseSource(Seeds(first=seed), [0], (4, side, side), dtype=torch.float64)
    source.first()
    return source


def geometric(steps: int, high: float = 10.0, low: float = 0.1) -> torch.Tensor:
    """Sigmas that end above 0, float64."""
    return torch.logspace(torch.tensor(high).log10(), torch.tensor(low).log10(), steps + 1, dtype=torch.float64)


def run_of(sampler: str, x: torch.Tensor, run: SamplerRun) -> tuple[torch.Tensor, list[Step], list[float]]:
    """Run a sampler to its end: the last latent, the steps it yielded, the levels it called the model at."""
    model = Gaussian()
    steps: list[Step] = []
    generator = SAMPLERS[sampler].run(model, x, run)
    while True:
        try:
            steps.append(next(generator))
        except StopIteration as end:
            return end.value, steps, model.calls


def order_of(error: Callable[[int], float], steps: int = 20) -> float:
    """The measured order: how many times the error halves when the steps double."""
    return float(torch.tensor(error(steps) / error(2 * steps)).log2())


def flow_error(sampler: str, **settings: float) -> Callable[[int], float]:
    """The error against the exact flow after so many steps of a sampler by sigma, without noise."""

    def error(steps: int) -> float:
        sigmas = geometric(steps)
        x = start(float(sigmas[0]))
        end, _, _ = run_of(sampler, x, SamplerRun(noise=NoNoise(), sigmas=sigmas, **settings))
        return float((end - exact(x, float(sigmas[0]), float(sigmas[-1]))).abs().max())

    return error
