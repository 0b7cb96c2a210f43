"""Where a pass of a pipeline begins: from noise alone, or from cells with noise on them, perhaps under a mask.

Flows mix linearly: at the noise level s a latent is s * noise + (1 - s) * picture. So a pass from a picture is the end
of a schedule, begun at that mixture; and what a mask does not mark stays on the straight line from its noise to itself.
"""

from dataclasses import dataclass

import torch

from server.core.errors import Broken
from server.engines.image.pipelines.latents import Grid
from server.engines.image.pipelines.watching import Stepped


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a pass begins with: cells of each picture, and the mask [h, w] of what is made anew, None = all."""

    cells: torch.Tensor
    remade: torch.Tensor | None = None


class Start:
    """The first latents of one call. `tensor` is what the pipeline is called with, filled once the schedule is known.

    `skipped` steps of the schedule are left out, for a pass that has an `origin`.
    """

    def __init__(
        self, grid: Grid, noise: torch.Tensor, dtype: torch.dtype, origin: Origin | None, skipped: int = 0
    ) -> None:
        self._grid = grid
        self._noise = noise
        self._origin = origin
        self.skipped = skipped if origin is not None else 0
        self.tensor = grid.given(noise).to(torch.float32 if grid.keeping.exact else dtype).clone()

    def begin(self, sigmas: torch.Tensor) -> None:
        """Mix the origin in at the schedule's first level."""
        if self._origin is not None:
            mixed = self._mixed(float(sigmas[0]))
            self.tensor.copy_(self._grid.given(mixed))

    def kept(self, stepped: Stepped) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the next latents of a step and what the picture was taken to be, with all that is not remade in it."""
        if self._origin is None or self._origin.remade is None or stepped.level is None:
            return stepped.latents, stepped.denoised
        latents = self._blended(stepped.latents, self._mixed(stepped.level))
        denoised = None if stepped.denoised is None else self._blended(stepped.denoised, self._mixed(0.0))
        return latents, denoised

    def check(self, stepped: Stepped) -> None:
        """Raise Broken when the pipeline did not begin with the tensor that it was given."""
        if self._origin is None or stepped.index > 0:
            return
        if stepped.sample.data_ptr() != self.tensor.data_ptr():
            raise Broken("the pipeline copies its first latents, so that it cannot begin with a picture")

    def _mixed(self, level: float) -> torch.Tensor:
        assert self._origin is not None
        return level * self._noise + (1.0 - level) * self._origin.cells

    def _blended(self, new: torch.Tensor, old: torch.Tensor) -> torch.Tensor:
        assert self._origin is not None and self._origin.remade is not None
        mask = self._grid.kept(self._origin.remade.expand_as(old).to(old))
        return new.float() * mask + self._grid.kept(old) * (1.0 - mask)
