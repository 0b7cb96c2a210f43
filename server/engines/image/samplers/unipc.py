"""UniPC: Zhao et al., "UniPC: a unified predictor-corrector framework for fast sampling of diffusion models" (2023).

The multistep form with data prediction and B(h) = h ("bh1"), order 3 and lower at both ends. It makes its own times,
even ones from the noisiest down to 1/1000, of which only their number comes from the run. The corrector reuses the
model call that the next step needs anyway.
"""

from dataclasses import dataclass

import torch

from server.core.errors import InvalidValue
from server.engines.image.samplers.base import Model, SamplerRun, Step, Steps

_ORDER = 3


@dataclass(frozen=True)
class _Point:
    """A time and its mix: alpha and sigma of the latent, lambda = ln(alpha / sigma); 0-dimensional float32."""

    model_time: float
    alpha: torch.Tensor
    sigma: torch.Tensor
    lam: torch.Tensor


def unipc(model: Model, x: torch.Tensor, run: SamplerRun) -> Steps:
    """One model call a step and none in the last; no noise.

    Raises:
        InvalidValue: Fewer times than the order of the method.
    """
    count = len(run.timesteps)
    if count < _ORDER:
        raise InvalidValue.of("steps", f"UniPC needs at least {_ORDER} steps, not {count}")
    points = _points(run, count)
    known = [(points[0], _picture(model, x, points[0]))]  # newest first
    for step in range(1, count + 1):
        order = min(_ORDER, step, count + 1 - step)
        target = points[step]
        known = known[:_ORDER]
        moved = _Move(known[:order], target)
        x, linear = moved.predicted(x)
        index, picture = step - 1, known[0][1]
        if step < count:
            found = _picture(model, x, target)
            x = moved.corrected(linear, found)
            known = [(target, found), *known]
        yield Step(index, x, picture, float(points[index].sigma / points[index].alpha))
    return x


class _Move:
    """One step from the newest known point to a target, with the slopes of D through the points before it."""

    def __init__(self, known: list[tuple[_Point, torch.Tensor]], target: _Point) -> None:
        newest, self._picture = known[0]
        self._newest = newest
        self._target = target
        self._h = target.lam - newest.lam
        ratios = [(point.lam - newest.lam) / self._h for point, _ in known[1:]]
        self._slopes = [
            (picture - self._picture) / ratio for (_, picture), ratio in zip(known[1:], ratios, strict=True)
        ]
        self._matrix, self._vector = _conditions([*ratios, torch.ones(())], -self._h)

    def predicted(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (the predicted latent, its part that does not depend on slopes)."""
        target, newest = self._target, self._newest
        linear = target.sigma / newest.sigma * x - target.alpha * torch.expm1(-self._h) * self._picture
        order = len(self._slopes)
        weights = torch.full((1,), 0.5) if order == 1 else _solved(self._matrix[:order, :order], self._vector[:order])
        return self._bent(linear, list(zip(weights, self._slopes, strict=True))), linear

    def corrected(self, linear: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
        """Return the latent once the model's answer at the predicted one is known."""
        slopes = [*self._slopes, found - self._picture]
        weights = torch.full((1,), 0.5) if len(slopes) == 1 else _solved(self._matrix, self._vector)
        return self._bent(linear, list(zip(weights, slopes, strict=True)))

    def _bent(self, linear: torch.Tensor, terms: list[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
        if not terms:
            return linear
        total = sum((weight * slope for weight, slope in terms[1:]), start=terms[0][0] * terms[0][1])
        return linear - self._target.alpha * -self._h * total


def _conditions(ratios: list[torch.Tensor], hh: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the order conditions (eq. 5): matrix of powers of the ratios, and phi functions over B(h) = hh."""
    stacked = torch.stack(ratios)
    phi = torch.expm1(hh) / hh - 1
    factorial = 1
    rows, values = [], []
    for power in range(len(ratios)):
        rows.append(stacked**power)
        values.append(phi * factorial / hh)
        factorial *= power + 2
        phi = phi / hh - 1 / factorial
    return torch.stack(rows), torch.stack(values)


def _solved(matrix: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
    return torch.linalg.solve(matrix, vector) if len(vector) else vector


def _points(run: SamplerRun, count: int) -> list[_Point]:
    """Return count + 1 even times from the noisiest (in img2img: that of the last time given) down to 1/n."""
    table = run.alphas_cumprod.to("cpu", torch.float32)
    n = len(table)
    logs = 0.5 * table.log()
    start = run.timesteps[-1] / n + 1 / n if run.resumed else 1.0
    return [_point(time, logs, n) for time in torch.linspace(start, 1 / n, count + 1)]


def _point(time: torch.Tensor, logs: torch.Tensor, n: int) -> _Point:
    """Return the mix at continuous time 0 ... 1; ln alpha is linear between the table's times (k + 1) / n."""
    position = (time * n - 1).clamp(0, n - 1)
    below = position.floor().long().clamp(max=n - 2)
    log_alpha = logs[below] + (position - below) * (logs[below + 1] - logs[below])
    variance = 1.0 - torch.exp(2.0 * log_alpha)
    return _Point(
        model_time=float((time - 1.0 / n) * n),
        alpha=torch.exp(log_alpha),
        sigma=torch.sqrt(variance),
        lam=log_alpha - 0.5 * torch.log(variance),
    )


def _picture(model: Model, x: torch.Tensor, point: _Point) -> torch.Tensor:
    eps = model.eps(x, point.model_time).guided
    return (x - point.sigma * eps) / point.alpha
