"""Between the two passes of a pipeline's hires job: the first picture's cells at the size of the second one."""

import msgspec
import torch

from server.core.errors import Broken
from server.core.image import HiresPass, ImageRequest
from server.engines.image.hires import Between, upscaled
from server.engines.image.pipelines.latents import Grid
from server.engines.image.pipelines.loaded import Loaded


def second_of(request: ImageRequest, hires: HiresPass) -> ImageRequest:
    """Return what the second pass asks for."""
    return msgspec.structs.replace(
        request,
        prompt=hires.prompt,
        negative=hires.negative,
        size=hires.size,
        denoise=hires.denoise,
        adapters=request.adapters if hires.adapters is None else hires.adapters,
    )


class _Reading:
    """A pipeline's VAE as the hires pass calls it: one picture at a time."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        return self._grid.decode(latent[None])[0].cpu()

    def encode(self, picture: torch.Tensor, noise: torch.Generator | None) -> torch.Tensor:
        return self._grid.encode(picture, noise)


def enlarged(loaded: Loaded, cells: torch.Tensor | None, hires: HiresPass, between: Between) -> torch.Tensor:
    """Return the cells of a batch at the size of the second pass, scaled by the upscaler that it names.

    Raises:
        LoadFailed: the upscaler's file cannot be used.
    """
    if cells is None or loaded.grid is None:
        raise Broken("this pipeline tells nothing of its latents, so that it has no second pass")
    with torch.no_grad():
        return upscaled(cells, hires, _Reading(loaded.grid), between, loaded.upscalers.lend).to(cells.device)
