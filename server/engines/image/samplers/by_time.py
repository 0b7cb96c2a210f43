"""What the samplers by time share: signal shares of their steps, and the step DDIM and PLMS make.

x is a mix sqrt(a) picture + sqrt(1 - a) noise that begins as pure unit noise, not scaled by a sigma. Sampling goes from
the last time to the first and makes one step less than there are times.
"""

from dataclasses import dataclass

import torch

from server.engines.image.samplers.base import SamplerRun


@dataclass(frozen=True)
class Signal:
    """One step: from `time` (signal share `alpha`) down to the time before, which has share `lower`.

    Shares are 0-dimensional float32; `spread` is the deviation of the noise that eta 1 would put back (DDIM, eq. 16).
    """

    time: int
    alpha: torch.Tensor
    lower: torch.Tensor
    spread: float

    @property
    def sigma(self) -> float:
        """The sigma of the same signal-to-noise ratio."""
        return float(((1 - self.alpha) / self.alpha) ** 0.5)

    def x0(self, x: torch.Tensor, eps: torch.Tensor) -> torch.Tensor:
        """Return the picture behind x."""
        return (x - (1 - self.alpha).sqrt() * eps) / self.alpha.sqrt()


def signals(run: SamplerRun) -> list[Signal]:
    """Return the steps in the order they are made. Nothing is made of a single time."""
    table = run.alphas_cumprod.to("cpu", torch.float32)
    found = []
    for time, below in zip(run.timesteps[:0:-1], run.timesteps[-2::-1], strict=True):
        # The step's target is rounded to float32 only after the spread is taken, as A1111 does.
        alpha, lower = table[time], table[below].to(torch.float64)
        share = (1 - lower) / (1 - alpha) * (1 - alpha / lower)
        found.append(Signal(time, alpha, lower.to(torch.float32), float(share.sqrt())))
    return found
