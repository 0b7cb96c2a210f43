"""Sequences of falling sigmas by schedule id, and the integer times of the timestep samplers.

All sequences are float32 on the CPU, computed in A1111 1.10's order of operations (recordings in the tests), and end
with 0 unless said. Sources: Karras et al. 2022 (`karras`), Sabour et al. 2024 (`align_your_steps`), k-diffusion
(`exponential`, `polyexponential`, `uniform`), Amin et al. 2024 (`kl_optimal`), Lee et al. 2024 (`beta`), ComfyUI and
sgm (`simple`, `normal`, `ddim`, `sgm_uniform`), Stability's SDXL Turbo (`turbo`).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch

from server.core.errors import InvalidValue
from server.core.image import Denoise
from server.engines.image.beta_quantile import beta_quantile
from server.engines.image.sigma_table import TRAINING_TIMES, SigmaTable, alphas_cumprod, zero_terminal_snr

__all__ = ["SCHEDULES", "SigmaTable", "alphas_cumprod", "karras", "sigmas", "timesteps", "zero_terminal_snr"]

_ALIGNED_SD1 = (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029)
_ALIGNED_SDXL = (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029)
_LEAST_BETA, _MOST_BETA = 0.01, 4.0
_KARRAS_RHO = 7.0


@dataclass(frozen=True)
class Grid:
    """What a schedule is computed from: `n` values between two sigmas. `rho` 0 = the schedule's own.

    `shape` is that of the Beta distribution for the schedule of that name.
    """

    table: SigmaTable
    n: int
    sigma_min: float
    sigma_max: float
    rho: float = 0.0
    sdxl: bool = False
    shape: tuple[float, float] = (0.6, 0.6)


def sigmas(
    table: SigmaTable, denoise: Denoise, steps: int, *, discard_next_to_last: bool = False, sdxl: bool = False
) -> torch.Tensor:
    """Return the falling sigmas [n + 1] of a pass; n is `steps` but for `ddim`, whose count may differ.

    Args:
        table: The model's noise levels (or those of a consistency model).
        denoise: Its schedule, sigma ends and rho.
        steps: Of the whole schedule (img2img uses its tail); 0 gives the single sigma 0.
        discard_next_to_last: The sampler's own wish, on top of the request's: one value more is made, and then the last
            but one is dropped.
        sdxl: Whether the model is an SDXL one (its own `align_your_steps` table).

    Raises:
        InvalidValue: Unknown schedule, more steps than the schedule can make, or sigma ends that make no range.
    """
    make = SCHEDULES.get(denoise.schedule)
    if make is None:
        raise InvalidValue.of("schedule", f"no schedule {denoise.schedule!r}; known are {', '.join(SCHEDULES)}")
    if steps <= 0:
        return torch.zeros(1)
    discard = discard_next_to_last or denoise.discard_next_to_last
    grid = Grid(
        table=table,
        n=steps + 1 if discard else steps,
        sigma_min=denoise.sigma_min or table.lowest,
        sigma_max=denoise.sigma_max or table.highest,
        rho=denoise.rho,
        sdxl=sdxl,
        shape=(denoise.beta_alpha, denoise.beta_beta),
    )
    if not 0 < grid.sigma_min < grid.sigma_max < math.inf:
        message = f"sigmas cannot run from {grid.sigma_max} down to {grid.sigma_min}"
        raise InvalidValue.of("sigma_min", message)
    made = make(grid)
    return torch.cat([made[:-2], made[-1:]]) if discard else made


def timesteps(steps: int) -> tuple[int, ...]:
    """Return the rising model times of DDIM, PLMS and UniPC; there may be more of them than steps (30 -> 31).

    Raises:
        InvalidValue: More steps than training times.
    """
    if steps <= 0:
        return ()
    if steps > TRAINING_TIMES:
        raise InvalidValue.of("steps", f"this sampler makes at most {TRAINING_TIMES} steps, not {steps}")
    return tuple(min(k + 1, TRAINING_TIMES - 1) for k in range(0, TRAINING_TIMES, TRAINING_TIMES // steps))


def karras(n: int, sigma_min: float, sigma_max: float, rho: float = _KARRAS_RHO) -> torch.Tensor:
    """Return n sigmas, linear in sigma^(1/rho), and a final 0."""
    ramp = torch.linspace(0, 1, n)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return _ended((high + ramp * (low - high)) ** rho)


def _uniform(grid: Grid) -> torch.Tensor:
    # The request's sigma ends do not act here, as in A1111.
    ends = grid.table.t(grid.table.sigmas[[-1, 0]])
    return _ended(grid.table.sigma(torch.linspace(float(ends[0]), float(ends[1]), grid.n)))


def _karras(grid: Grid) -> torch.Tensor:
    return karras(grid.n, grid.sigma_min, grid.sigma_max, grid.rho or _KARRAS_RHO)


def _exponential(grid: Grid) -> torch.Tensor:
    return _ended(torch.linspace(math.log(grid.sigma_max), math.log(grid.sigma_min), grid.n).exp())


def _polyexponential(grid: Grid) -> torch.Tensor:
    low, high = math.log(grid.sigma_min), math.log(grid.sigma_max)
    return _ended((torch.linspace(1, 0, grid.n) ** (grid.rho or 1.0) * (high - low) + low).exp())


def _time_ends(grid: Grid) -> tuple[float, float]:
    ends = grid.table.t(torch.tensor([grid.sigma_max, grid.sigma_min]))
    return float(ends[0]), float(ends[1])


def _normal(grid: Grid) -> torch.Tensor:
    return _ended(grid.table.sigma(torch.linspace(*_time_ends(grid), grid.n)))


def _sgm_uniform(grid: Grid) -> torch.Tensor:
    return _ended(grid.table.sigma(torch.linspace(*_time_ends(grid), grid.n + 1)[:-1]))


def _kl_optimal(grid: Grid) -> torch.Tensor:
    """One value more than asked, ending at sigma_min: there is no zero, so the last step is an ordinary one."""
    low, high = torch.tensor(grid.sigma_min).arctan(), torch.tensor(grid.sigma_max).arctan()
    share = torch.arange(grid.n + 1) / grid.n
    return torch.tan(share * low + (1.0 - share) * high)


def _align_your_steps(grid: Grid) -> torch.Tensor:
    known = _ALIGNED_SDXL if grid.sdxl else _ALIGNED_SD1
    if grid.n == len(known):
        return torch.tensor([*known, 0.0])
    logs = np.interp(np.linspace(0, 1, grid.n), np.linspace(0, 1, len(known)), np.log(known[::-1]))
    # One value is the lowest sigma, not the highest: the resampling starts at the table's low end, as A1111's does.
    return torch.tensor([*np.exp(logs)[::-1], 0.0], dtype=torch.float32)


def _simple(grid: Grid) -> torch.Tensor:
    known = grid.table.sigmas
    step = len(known) / grid.n
    return _ended(known[[-(1 + int(i * step)) for i in range(grid.n)]])


def _ddim(grid: Grid) -> torch.Tensor:
    known = grid.table.sigmas
    return _ended(known[1 :: max(len(known) // grid.n, 1)].flip(0))


def _beta(grid: Grid) -> torch.Tensor:
    if not all(_LEAST_BETA <= each <= _MOST_BETA for each in grid.shape):
        raise InvalidValue.of("beta_alpha", f"the shape of a Beta schedule is {_LEAST_BETA:g} ... {_MOST_BETA:g}")
    shares = beta_quantile(1 - np.linspace(0, 1, grid.n), *grid.shape)
    return torch.tensor([*(grid.sigma_min + shares * (grid.sigma_max - grid.sigma_min)), 0.0], dtype=torch.float32)


def _turbo(grid: Grid) -> torch.Tensor:
    times = torch.arange(grid.n, 0, -1) * (TRAINING_TIMES / grid.n) - 1
    return _ended(grid.table.sigma(times.round().clamp(0, TRAINING_TIMES - 1)))


def _ended(values: torch.Tensor) -> torch.Tensor:
    return torch.cat([values, values.new_zeros(1)])


SCHEDULES: Mapping[str, Callable[[Grid], torch.Tensor]] = MappingProxyType(
    {
        "uniform": _uniform,
        "karras": _karras,
        "exponential": _exponential,
        "polyexponential": _polyexponential,
        "sgm_uniform": _sgm_uniform,
        "kl_optimal": _kl_optimal,
        "align_your_steps": _align_your_steps,
        "simple": _simple,
        "normal": _normal,
        "ddim": _ddim,
        "beta": _beta,
        "turbo": _turbo,
    }
)
