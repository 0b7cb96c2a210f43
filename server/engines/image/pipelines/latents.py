"""How a pipeline keeps latents, and how its VAE reads them.

*Cells* are what noise is drawn for, [batch, channels, h, w], a cell being so many pixels wide; *kept* is what the
pipeline's loop works on.

| packing | kept | pipelines |
|---|---|---|
| `plain` | the cells | Stable Diffusion 3, Z-Image, Lumina, Sana, PixArt, ... |
| `patches` | [batch, h/2 * w/2, 4 * channels], a row is a 2 x 2 patch, channels first | Flux, Chroma, Qwen-Image |
| `rows` | [batch, h * w, channels], where a cell is a 2 x 2 patch already | Flux 2 |

What is not in the table draws its noise by itself, and makes pictures from prompts alone.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch

from server.core.image import Size

Packing = Literal["plain", "patches", "rows"]

PATCH = 2


@dataclass(frozen=True, kw_only=True)
class Keeping:
    """How a pipeline keeps its latents.

    `begins`: it works on the very tensor that it is given, so that a job may begin with a picture. `exact`: in float32,
    whatever the model runs in.
    """

    packing: Packing
    begins: bool = True
    exact: bool = False


_PATCHES = Keeping(packing="patches")
_ROWS = Keeping(packing="rows")
_PLAIN = Keeping(packing="plain")
_NOISE_ONLY = Keeping(packing="plain", begins=False)

KEEPING: dict[str, Keeping] = {
    "StableDiffusion3Pipeline": _PLAIN,
    "Lumina2Pipeline": _PLAIN,
    "ZImagePipeline": Keeping(packing="plain", exact=True),
    "FluxPipeline": _PATCHES,
    "ChromaPipeline": _PATCHES,
    "OvisImagePipeline": _PATCHES,
    "LongCatImagePipeline": _PATCHES,
    "QwenImagePipeline": _PATCHES,
    "Flux2Pipeline": _ROWS,
    "Flux2KleinPipeline": _ROWS,
    **dict.fromkeys(
        (
            *("SanaPipeline", "PixArtAlphaPipeline", "PixArtSigmaPipeline", "AuraFlowPipeline", "LuminaPipeline"),
            *("CogView3PlusPipeline", "CogView4Pipeline", "HunyuanDiTPipeline"),
        ),
        _NOISE_ONLY,
    ),
}
"""By the name of the pipeline's class."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The latents of one loaded pipeline: `cell` pixels wide, `channels` deep, read by `vae`."""

    keeping: Keeping
    vae: Any
    channels: int
    cell: int

    def shape(self, size: Size) -> tuple[int, int, int]:
        """Return the shape of one picture's cells."""
        return self.channels, size.height // self.cell, size.width // self.cell

    def kept(self, cells: torch.Tensor) -> torch.Tensor:
        """Return cells as the pipeline's loop keeps them."""
        match self.keeping.packing:
            case "plain":
                return cells
            case "rows":
                return cells.flatten(2).permute(0, 2, 1)
            case "patches":
                batch, channels, height, width = cells.shape
                split = cells.reshape(batch, channels, height // PATCH, PATCH, width // PATCH, PATCH)
                return split.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * PATCH * PATCH)

    def cells(self, kept: torch.Tensor, size: Size) -> torch.Tensor:
        """Return what the pipeline keeps as cells."""
        channels, height, width = self.shape(size)
        match self.keeping.packing:
            case "plain":
                return kept
            case "rows":
                return kept.permute(0, 2, 1).reshape(-1, channels, height, width)
            case "patches":
                rows = kept.reshape(-1, height // PATCH, width // PATCH, channels, PATCH, PATCH)
                return rows.permute(0, 3, 1, 4, 2, 5).reshape(-1, channels, height, width)

    def given(self, cells: torch.Tensor) -> torch.Tensor:
        """Return cells as the pipeline is called with them; it packs rows itself."""
        return cells if self.keeping.packing == "rows" else self.kept(cells)

    def decode(self, cells: torch.Tensor) -> torch.Tensor:
        """Return the pictures of cells, [batch, 3, H, W] float32, about -1 ... 1. To be called without gradients."""
        mean, std = self._scale(cells)
        latents = cells.float() * std + mean
        if self.keeping.packing == "rows":
            latents = _unfolded(latents)
        if self._is_video:
            return self.vae.decode(latents[:, :, None], return_dict=False)[0][:, :, 0].float()
        return self.vae.decode(latents, return_dict=False)[0].float()

    def encode(self, picture: torch.Tensor, noise: torch.Generator | None) -> torch.Tensor:
        """Return the cells [C, h, w] float32 of a picture [3, H, W], -1 ... 1; a sample with `noise`, else the mean."""
        pixels = picture[None, :, None] if self._is_video else picture[None]
        found = self.vae.encode(pixels)
        if hasattr(found, "latent_dist"):
            posterior = found.latent_dist
            latents = posterior.mean.float()
            if noise is not None and self.keeping.packing != "rows":  # Flux 2 takes the mean
                latents = latents + posterior.std.float() * torch.randn(latents.shape, generator=noise).to(latents)
        else:
            latents = found.latent.float()
        cells = latents[:, :, 0] if self._is_video else latents
        if self.keeping.packing == "rows":
            cells = _folded(cells)
        mean, std = self._scale(cells)
        result: torch.Tensor = ((cells - mean) / std)[0]
        return result

    @property
    def _is_video(self) -> bool:
        return "z_dim" in self.vae.config

    def _scale(self, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and deviation of the VAE's numbers for cells of mean 0 and deviation 1."""
        config = self.vae.config
        if self.keeping.packing == "rows":
            norm = self.vae.bn
            mean, std = norm.running_mean, torch.sqrt(norm.running_var + config.batch_norm_eps)
        elif config.get("latents_mean") is not None:
            mean, std = torch.tensor(config.latents_mean), torch.tensor(config.latents_std)
        else:
            shift = config.get("shift_factor") or 0.0
            mean, std = torch.tensor([shift]), torch.tensor([1 / config.scaling_factor])
        return mean.float().to(like.device).view(1, -1, 1, 1), std.float().to(like.device).view(1, -1, 1, 1)


def grid_of(pipeline: Any) -> Grid | None:
    """Return how a pipeline keeps its latents, None where nobody told us."""
    keeping = KEEPING.get(type(pipeline).__name__)
    if keeping is None:
        return None
    config, cell = pipeline.vae.config, int(pipeline.vae_scale_factor)
    channels = int(config.get("z_dim") or config.latent_channels)
    if keeping.packing == "rows":
        channels, cell = channels * PATCH * PATCH, cell * PATCH
    return Grid(keeping=keeping, vae=pipeline.vae, channels=channels, cell=cell)


def unit_of(pipeline: Any) -> int:
    """Return of how many pixels the sides of a picture are a multiple."""
    config = getattr(getattr(pipeline, "transformer", None), "config", {})
    patch = config.get("patch_size", PATCH)
    patch = patch if isinstance(patch, int) else PATCH
    keeping = KEEPING.get(type(pipeline).__name__, _PATCHES)
    if keeping.packing != "plain":
        patch = PATCH
    processor = getattr(getattr(pipeline, "image_processor", None), "config", {})
    return max(int(getattr(pipeline, "vae_scale_factor", 8)) * patch, int(processor.get("vae_scale_factor", 1)))


def _folded(latents: torch.Tensor) -> torch.Tensor:
    """Return [b, c, 2h, 2w] as [b, 4c, h, w]."""
    batch, channels, height, width = latents.shape
    split = latents.reshape(batch, channels, height // PATCH, PATCH, width // PATCH, PATCH)
    return split.permute(0, 1, 3, 5, 2, 4).reshape(batch, channels * PATCH * PATCH, height // PATCH, width // PATCH)


def _unfolded(cells: torch.Tensor) -> torch.Tensor:
    """Return [b, 4c, h, w] as [b, c, 2h, 2w]."""
    batch, channels, height, width = cells.shape
    split = cells.reshape(batch, channels // PATCH**2, PATCH, PATCH, height, width)
    return split.permute(0, 1, 4, 2, 5, 3).reshape(batch, channels // PATCH**2, height * PATCH, width * PATCH)
