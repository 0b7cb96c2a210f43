"""DPM-Solver of orders 1 to 3 in t = -ln sigma: with so many model calls (fast), or by an estimated error (adaptive).

Lu et al., "DPM-Solver: a fast ODE solver for diffusion probabilistic model sampling in around 10 steps" (2022); the PID
control of step sizes and ancestral noise follow k-diffusion. Both choose their own sigmas between two ends; the
schedule is ignored, and no last step to 0 is made.
"""

import math

import torch

from server.core.errors import Broken
from server.engines.image.samplers.base import Model, SamplerRun, Step, Steps, ancestral, from_neg_log, neg_log

_RELATIVE_TOLERANCE = 0.05
_ABSOLUTE_TOLERANCE = 0.0078
_FIRST_STEP = 0.05
_ACCEPTED_FACTOR = 0.81
_INTEGRAL_GAIN = 1.0
_NEARLY_THERE = 1e-5
_TRIES = 2000  # an image takes a few dozen; a model that answers NaN would go on for ever


class _Trial:
    """Solver steps of several orders from one latent at one time to another; model calls they share are made once."""

    def __init__(self, model: Model, x: torch.Tensor, t: torch.Tensor, end: torch.Tensor) -> None:
        self._model = model
        self._x = x
        self._t = t
        self._h = end - t
        self._sigma = from_neg_log(end)
        sigma = from_neg_log(t)
        self.denoised = model(x, sigma)
        self._eps = (x - self.denoised) / sigma
        self._third: torch.Tensor | None = None

    def first_order(self) -> torch.Tensor:
        return self._x - self._sigma * self._h.expm1() * self._eps

    def second_order(self) -> torch.Tensor:
        return self._second(0.5, self._eps_at(0.5))

    def second_order_by_thirds(self) -> torch.Tensor:
        return self._second(1 / 3, self._eps_at_third())

    def third_order(self) -> torch.Tensor:
        one = self._eps_at_third()
        part = 2 / 3 * self._h
        middle = self._t + part
        sigma = from_neg_log(middle)
        guess = self._x - sigma * part.expm1() * self._eps - sigma * 2 * (part.expm1() / part - 1) * (one - self._eps)
        two = self._predict(guess, middle)
        bend = self._sigma / (2 / 3) * (self._h.expm1() / self._h - 1) * (two - self._eps)
        return self.first_order() - bend

    def _second(self, share: float, one: torch.Tensor) -> torch.Tensor:
        return self.first_order() - self._sigma / (2 * share) * self._h.expm1() * (one - self._eps)

    def _eps_at_third(self) -> torch.Tensor:
        if self._third is None:
            self._third = self._eps_at(1 / 3)
        return self._third

    def _eps_at(self, share: float) -> torch.Tensor:
        part = share * self._h
        middle = self._t + part
        return self._predict(self._x - from_neg_log(middle) * part.expm1() * self._eps, middle)

    def _predict(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        sigma = from_neg_log(t)
        return (x - self._model(x, sigma)) / sigma


def dpm_fast(model: Model, x: torch.Tensor, run: SamplerRun) -> Steps:
    """As many model calls as steps, in steps of up to three calls; takes eta and the noise scale."""
    calls = run.steps if run.steps is not None else len(run.sigmas) - 1
    if calls < 1:
        return x
    start, end = _times(run)
    orders = call_orders(calls)
    times = torch.linspace(float(start), float(end), len(orders) + 1)
    for i, order in enumerate(orders):
        t, following = times[i], times[i + 1]
        target, up = _ancestral(t, following, end, run.ancestral_eta)
        trial = _Trial(model, x, t, target)
        x = (trial.first_order, trial.second_order, trial.third_order)[order - 1]()
        if run.ancestral_eta != 0:
            x = x + up * run.noise_scale * run.noise.next()
        yield Step(i, x, trial.denoised, float(from_neg_log(t)))
    return x


def dpm_adaptive(model: Model, x: torch.Tensor, run: SamplerRun) -> Steps:
    """Third-order steps, each as long as the second-order solution agrees; takes eta.

    Yields for refused steps too (the latent then stands still), so that a caller may stop between them.

    Raises:
        Broken: The model's answers let no step size be found.
    """
    if len(run.sigmas) < 2 and run.sigma_range is None:
        return x
    t, end = _times(run)
    control = _StepSize(order=1.5 if run.ancestral_eta != 0 else 3.0)
    lower = x
    tries = 0
    while t < end - _NEARLY_THERE:
        if tries >= _TRIES or not math.isfinite(control.h):
            raise Broken("DPM adaptive found no step size: the model's answers are not finite or do not settle")
        following = torch.minimum(end, t + control.h)
        target, up = _ancestral(t, following, end, run.ancestral_eta)
        trial = _Trial(model, x, t, target)
        low, high = trial.second_order_by_thirds(), trial.third_order()
        allowed = (_RELATIVE_TOLERANCE * torch.maximum(low.abs(), lower.abs())).clamp(min=_ABSOLUTE_TOLERANCE)
        error = torch.linalg.vector_norm((low - high) / allowed) / x.numel() ** 0.5
        sigma = float(from_neg_log(t))
        if control.accepts(float(error)):
            lower, x, t = low, high, following
            if run.ancestral_eta != 0:
                x = x + up * run.noise.next()
        yield Step(tries, x, trial.denoised, sigma)
        tries += 1
    return x


def call_orders(calls: int) -> list[int]:
    """Return the orders of the steps that together make `calls` model calls, at least 1."""
    full, rest = divmod(calls, 3)
    return [3] * (full - 1) + [2, 1] if rest == 0 else [3] * full + [rest]


class _StepSize:
    """The step length under integral control of the error (Hairer's limiter keeps jumps small)."""

    def __init__(self, order: float) -> None:
        self.h = _FIRST_STEP
        self._power = _INTEGRAL_GAIN / order

    def accepts(self, error: float) -> bool:
        """Tell whether a step of that error stands, and choose the next length."""
        factor: float = (1 / (error + 1e-8)) ** self._power
        factor = 1 + math.atan(factor - 1)
        self.h *= factor
        return factor >= _ACCEPTED_FACTOR


def _ancestral(
    t: torch.Tensor, following: torch.Tensor, end: torch.Tensor, eta: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the time to step down to, not beyond `end`, and the noise that brings it back up to `following`."""
    if eta == 0:
        return following, torch.zeros(())
    sigma = from_neg_log(following)
    down, _ = ancestral(from_neg_log(t), sigma, eta)
    target = torch.minimum(end, neg_log(down))
    return target, (sigma**2 - from_neg_log(target) ** 2).clamp(min=0) ** 0.5


def _times(run: SamplerRun) -> tuple[torch.Tensor, torch.Tensor]:
    positive = run.sigmas[run.sigmas > 0]
    low, high = run.sigma_range or (float(positive[-1]), float(positive[0]))
    return neg_log(torch.tensor(high)), neg_log(torch.tensor(low))
