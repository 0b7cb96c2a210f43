"""A pass under way: what happens at each step of a running pipeline. Runs inside the call."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from server.core.image import Preview, Size, StepDone
from server.core.jobs import Event
from server.engines.image.pipelines.beginning import Start
from server.engines.image.pipelines.loaded import Loaded
from server.engines.image.pipelines.looks import look
from server.engines.image.pipelines.turns import Turns
from server.engines.image.pipelines.watching import Stepped


class Cut(Exception):
    """Raised inside a pipeline that cannot leave out its last steps by itself. Carries what there is of pictures."""

    def __init__(self, pictures: tuple[np.ndarray, ...]) -> None:
        super().__init__("the pass was cut short")
        self.pictures = pictures


@dataclass(kw_only=True)
class Course:
    """Leads one call: hands its events over, shows previews, ends it when asked to. `last` are the last cells."""

    loaded: Loaded
    size: Size
    number: int
    start: Start | None
    turns: Turns[Event, Any]
    is_over: Callable[[], bool]
    preview_every: int = 0
    last: torch.Tensor | None = field(default=None, init=False)

    def schedule(self, sigmas: torch.Tensor) -> None:
        """Begin where the schedule begins."""
        if self.start is not None:
            self.start.begin(sigmas)

    def step(self, stepped: Stepped) -> torch.Tensor | None:
        """Look at a step; return other latents to go on with, None for the pipeline's own."""
        latents, denoised = stepped.latents, stepped.denoised
        if self.start is not None:
            self.start.check(stepped)
            latents, denoised = self.start.kept(stepped)
        self.last = self._cells(latents)
        number = stepped.index + 1
        self.turns.hand(StepDone(pass_index=self.number, step=number, steps=stepped.steps))
        if self.preview_every and number % self.preview_every == 0 and number < stepped.steps:
            self._show(latents if denoised is None else denoised)
        if number < stepped.steps and self.is_over():
            return self._ended(latents if denoised is None else denoised)
        return None if latents is stepped.latents else latents

    def _show(self, kept: torch.Tensor) -> None:
        cells, grid = self._cells(kept), self.loaded.grid
        if cells is not None and grid is not None:
            self.turns.hand(Preview(pass_index=self.number, png=look(grid, cells)))

    def _ended(self, kept: torch.Tensor) -> torch.Tensor:
        """Have the pipeline leave out the rest of its steps and go on to the picture."""
        self.last = self._cells(kept)
        if self.loaded.is_interruptible:
            self.loaded.pipeline._interrupt = True  # what its property tells; there is no other way to say so
            return kept
        grid = self.loaded.grid
        if grid is None or self.last is None:
            raise Cut(())
        pictures = (grid.decode(self.last) / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy()
        raise Cut(tuple(pictures))

    def _cells(self, kept: torch.Tensor) -> torch.Tensor | None:
        grid = self.loaded.grid
        return None if grid is None else grid.cells(kept, self.size).float()
