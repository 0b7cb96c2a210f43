"""A refiner takes a pass over: when it does, and what the guided model works with from then on."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from server.core.image import Refiner
from server.engines.image.denoisers import Denoiser
from server.engines.image.guidance import Eps, Guidance, Prompts
from server.engines.image.samplers import Model
from server.engines.image.sigma_table import TRAINING_TIMES, SigmaTable

LAST_TIME = TRAINING_TIMES - 1


@dataclass(frozen=True, kw_only=True)
class Successor:
    """What a refiner brings: its own view of the latents, prompts as it reads them, and a filler as in `Guidance`."""

    denoiser: Denoiser
    prompts: Callable[[int], Prompts]
    empty: torch.Tensor | None


def share_by_sigma(table: SigmaTable, sigma: float) -> float:
    """Return how much of the noise schedule is behind at a sigma: (999 - the nearest entry's number) / 1000."""
    nearest = int((table.sigmas - sigma).abs().argmin())
    return (LAST_TIME - nearest) / TRAINING_TIMES


def share_by_time(time: float) -> float:
    """Return how much of the noise schedule is behind at a model time."""
    return (LAST_TIME - int(time)) / TRAINING_TIMES


@dataclass(kw_only=True)
class Refining:
    """Watches the model calls of one pass. `calls` are those that it makes in all, `take_over` seats the refiner."""

    asked: Refiner
    guidance: Guidance
    table: SigmaTable
    calls: int
    take_over: Callable[[], Successor]
    is_done: bool = field(default=False, init=False)

    def around(self, model: Model) -> Model:
        """Return a model that is the refiner's from the call on at which it is due."""
        return _Watched(self, model)

    def look(self, share: Callable[[], float]) -> None:
        """Hand over before a call if it is time; `share` tells how much of the schedule is behind."""
        if self.is_done:
            return
        behind = self.guidance.calls / max(self.calls, 1) if self.asked.by_calls else share()
        if behind < self.asked.switch_at:
            return
        self.is_done = True
        next_ = self.take_over()
        self.guidance.hand_over(next_.denoiser, next_.prompts, empty=next_.empty)


class _Watched:
    def __init__(self, refining: Refining, inner: Model) -> None:
        self._refining = refining
        self._inner = inner

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """Return D(x, sigma)."""
        self._refining.look(lambda: share_by_sigma(self._refining.table, float(sigma)))
        return self._inner(x, sigma)

    def eps(self, x: torch.Tensor, t: float) -> Eps:
        """Return the noise in x."""
        self._refining.look(lambda: share_by_time(t))
        return self._inner.eps(x, t)
