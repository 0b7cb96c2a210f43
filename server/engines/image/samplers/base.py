"""What all samplers share: the model they call, the run they are given, the steps they yield, and small formulas.

Sigmas stay 0-dimensional float32 tensors on the CPU: arithmetic on them is then the same whatever device the latent is
on, and costs no synchronisation.
"""

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Protocol

import torch

from server.engines.image.brownian import BrownianNoise
from server.engines.image.guidance import Eps


@dataclass(frozen=True)
class Step:
    """A finished step: its number (from 0) and the latent after it.

    `denoised` is what the model took the picture to be when it was asked at `sigma`; samplers by time give the sigma of
    the same signal-to-noise ratio.
    """

    index: int
    x: torch.Tensor
    denoised: torch.Tensor
    sigma: float


Steps = Generator[Step, None, torch.Tensor]
"""Yields after each step and returns the last latent; closing it ends the run."""


class Model(Protocol):
    """A guided model (`server.engines.image.guidance.Guidance` is one)."""

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """Return the denoised latent D(x, sigma); `sigma` is 0-dimensional."""
        ...

    def eps(self, x: torch.Tensor, t: float) -> Eps:
        """Return the noise in x at model time t."""
        ...


class Noise(Protocol):
    """A source of noise (`server.engines.image.seeds.NoiseSource` is one)."""

    def next(self) -> torch.Tensor:
        """Return the next draw, [batch, C, h, w]."""
        ...

    def brownian(self, sigma_min: float, sigma_max: float) -> BrownianNoise:
        """Return noise as a function of two sigmas."""
        ...


@dataclass(frozen=True, kw_only=True)
class SamplerRun:
    """All a sampler is told. Each uses what its method has a use for; A1111's samplers do the same.

    Attributes:
        noise: Where draws come from.
        sigmas: Falling, float32 on the CPU [n + 1]; in img2img the tail of `schedule`. For samplers by sigma.
        schedule: The whole schedule; None = `sigmas`. Brownian noise spans it.
        sigma_range: (least, largest) sigma for DPM fast and adaptive: in txt2img those of the table. None = the last
            non-zero and the first of `sigmas`.
        steps: Model calls of DPM fast; None = as many as `sigmas` has steps.
        eta: Share of ancestral noise; None = the sampler's own default (1, for DDIM 0).
        churn: Noise added before steps with a sigma in `tmin` ... `tmax` (0 = unlimited).
        noise_scale: Factor on added noise.
        alphas_cumprod: The model's table [1000], for samplers by time.
        timesteps: Rising model times, for samplers by time; in img2img the lower part of them.
        resumed: Whether x already holds a picture (img2img), for UniPC, which makes its own times.
    """

    noise: Noise
    sigmas: torch.Tensor = field(default_factory=lambda: torch.zeros(1))
    schedule: torch.Tensor | None = None
    sigma_range: tuple[float, float] | None = None
    steps: int | None = None
    eta: float | None = None
    churn: float = 0.0
    tmin: float = 0.0
    tmax: float = 0.0
    noise_scale: float = 1.0
    alphas_cumprod: torch.Tensor = field(default_factory=lambda: torch.ones(0))
    timesteps: tuple[int, ...] = ()
    resumed: bool = False

    @property
    def ancestral_eta(self) -> float:
        """Eta of the samplers by sigma."""
        return 1.0 if self.eta is None else self.eta

    def brownian(self) -> BrownianNoise:
        """Return Brownian noise over the whole schedule."""
        whole = self.sigmas if self.schedule is None else self.schedule
        positive = whole[whole > 0]
        return self.noise.brownian(float(positive.min()), float(positive.max()))


Sampler = Callable[[Model, torch.Tensor, SamplerRun], Steps]
"""From a model, the noisy latent [batch, C, h, w] and a run to the steps."""


def slope(x: torch.Tensor, sigma: torch.Tensor, denoised: torch.Tensor) -> torch.Tensor:
    """Return dx/dsigma of the probability flow (Karras et al. 2022)."""
    return (x - denoised) / sigma


def neg_log(sigma: torch.Tensor) -> torch.Tensor:
    """Return the time t = -ln sigma in which DPM solvers step."""
    return sigma.log().neg()


def from_neg_log(t: torch.Tensor) -> torch.Tensor:
    """Return the sigma of a time t = -ln sigma."""
    return t.neg().exp()


def ancestral(sigma_from: torch.Tensor, sigma_to: torch.Tensor, eta: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Split a step into one down and noise back up: (sigma_down, sigma_up) with down^2 + up^2 = to^2."""
    if eta == 0:
        return sigma_to, torch.zeros(())
    up = torch.minimum(
        sigma_to, eta * (sigma_to**2 * (sigma_from**2 - sigma_to**2).clamp(min=0) / sigma_from**2) ** 0.5
    )
    return (sigma_to**2 - up**2) ** 0.5, up


def churned(x: torch.Tensor, sigma: torch.Tensor, run: SamplerRun) -> tuple[torch.Tensor, torch.Tensor]:
    """Add noise before a step, as Karras et al. 2022 do: return the latent and its raised sigma.

    A draw is taken for each step once any step may use one: A1111 draws always, and later steps' noise depends on it.
    """
    if run.churn <= 0:
        return x, sigma
    drawn = run.noise.next()
    steps = len(run.sigmas) - 1
    is_inside = run.tmin <= float(sigma) <= (run.tmax if run.tmax > 0 else math.inf)
    gamma = min(run.churn / steps, 2**0.5 - 1) if is_inside else 0.0
    if gamma == 0:
        return x, sigma
    raised = sigma * (gamma + 1)
    return x + drawn * run.noise_scale * (raised**2 - sigma**2) ** 0.5, raised
