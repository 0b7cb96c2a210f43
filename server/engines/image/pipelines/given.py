"""Pictures that a job of a pipeline begins with: from files to cells, by the same rules as for checkpoints."""

from dataclasses import dataclass

import torch

from server.core.image import ImageRequest, InitImages
from server.engines.image.beginnings import entry_of
from server.engines.image.finishing import Finishing
from server.engines.image.init_images import Sources, prepared
from server.engines.image.inpaint import Blend, filled
from server.engines.image.masks import latent_mask
from server.engines.image.pictures import from_image
from server.engines.image.pipelines.beginning import Origin
from server.engines.image.pipelines.latents import Grid
from server.engines.image.pipelines.loaded import Loaded
from server.engines.image.seeds import NoiseSource

__all__ = ["Given", "entry_of", "given_of"]


@dataclass(frozen=True, kw_only=True)
class Given:
    """What all batches of a job begin with, and how its pictures are finished."""

    origin: Origin
    sources: Sources
    finishing: Finishing


def given_of(loaded: Loaded, request: ImageRequest, init: InitImages) -> Given:
    """Decode, fit and encode the pictures of a job.

    Raises:
        BadImage: a file is no picture or does not fit.
    """
    grid, place = loaded.grid, loaded.placement
    assert grid is not None
    by = None if init.upscaler_file is None else loaded.upscalers.lend(init.upscaler_file)
    sources = prepared(init, request.size, by)
    last = request.batch_size * request.batches - 1
    shape = grid.shape(request.size)
    noise = NoiseSource(request.seeds, range(last, last + 1), shape, device=place.device).posterior()
    cells = torch.stack([_encoded(grid, from_image(source.picture), noise) for source in sources.pictures])
    if len(cells) == 1:
        cells = cells.expand(request.batch_size, -1, -1, -1)
    remade, blend = None, None
    if init.inpaint is not None and sources.mask is not None:
        for_latents = sources.latent_mask or sources.mask
        remade = latent_mask(for_latents, *shape[1:], rounded=init.inpaint.rounded).to(cells.device)
        cells = filled(cells, remade, init.inpaint, request.seeds)
        blend = Blend(cells, remade)
    finishing = Finishing(sources=sources, asked=init.inpaint, blend=blend, size=request.size)
    return Given(origin=Origin(cells=cells, remade=remade), sources=sources, finishing=finishing)


def _encoded(grid: Grid, picture: torch.Tensor, noise: torch.Generator | None) -> torch.Tensor:
    with torch.no_grad():
        return grid.encode(picture, noise)
