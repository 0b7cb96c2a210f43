"""Between the two passes of a hires job: the first picture, scaled."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch.nn import functional

from server.core.errors import InvalidValue
from server.core.image import HiresPass, Size, UpscalerRef
from server.engines.image.enlarging import PIXEL_FILTERS, Enlarger, enlarged_by, filter_named
from server.engines.image.pictures import from_image, to_image


class Reader(Protocol):
    """Reads latents [C, h, w] and writes them, as `vae.Vae` does."""

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """Return the picture [3, H, W], about -1 ... 1, on the CPU."""
        ...

    def encode(self, picture: torch.Tensor, noise: torch.Generator | None) -> torch.Tensor:
        """Return the latent of a picture."""
        ...


@dataclass(frozen=True)
class LatentMode:
    """How latents are interpolated."""

    mode: str
    antialias: bool = False


LATENT_MODES = {
    "latent": LatentMode("bilinear"),
    "latent_antialiased": LatentMode("bilinear", antialias=True),
    "latent_bicubic": LatentMode("bicubic"),
    "latent_bicubic_antialiased": LatentMode("bicubic", antialias=True),
    "latent_nearest": LatentMode("nearest"),
    "latent_nearest_exact": LatentMode("nearest-exact"),
}

UPSCALERS = (*LATENT_MODES, *PIXEL_FILTERS)

Between = Callable[[], torch.Generator | None]
"""Makes the generator from which the VAE's encoding is sampled."""

Lend = Callable[[UpscalerRef], Enlarger]
"""Opens an upscaler's file; raises LoadFailed."""


def no_files(wanted: UpscalerRef) -> Enlarger:
    """Lend nothing."""
    raise InvalidValue.of("upscaler", f"the upscaler {wanted.name!r} cannot be used here")


def upscaled(
    latents: torch.Tensor,
    hires: HiresPass,
    vae: Reader,
    between: Between,
    lend: Lend = no_files,
    *,
    encoder: Reader | None = None,
) -> torch.Tensor:
    """Return latents [batch, C, h, w] at the size of the second pass, scaled and then cut to `hires.size`.

    `vae` is the first pass's; `encoder` the second's, None = the same.

    Raises:
        InvalidValue: no such upscaler.
        LoadFailed: its file cannot be used.
    """
    mode = LATENT_MODES.get(hires.upscaler) if hires.upscaler_file is None else None
    if mode is not None:
        return _cut(_interpolated(latents, hires.scale_to, mode), hires)
    enlarger = _enlarger(hires, lend)
    noise = between()
    pictures = [enlarged_by(to_image(vae.decode(latent)), hires.scale_to, enlarger) for latent in latents]
    encode = (encoder or vae).encode
    return _cut(torch.stack([encode(from_image(picture), noise) for picture in pictures]), hires)


def _enlarger(hires: HiresPass, lend: Lend) -> Enlarger | None:
    if hires.upscaler_file is not None:
        return lend(hires.upscaler_file)
    if hires.upscaler not in PIXEL_FILTERS:
        raise InvalidValue.of("upscaler", f"unknown upscaler {hires.upscaler!r}; known are {', '.join(UPSCALERS)}")
    return filter_named(hires.upscaler)


def _interpolated(latents: torch.Tensor, size: Size, mode: LatentMode) -> torch.Tensor:
    return functional.interpolate(
        latents, size=(size.height // 8, size.width // 8), mode=mode.mode, antialias=mode.antialias
    )


def _cut(latents: torch.Tensor, hires: HiresPass) -> torch.Tensor:
    """Cut the cells beyond the wanted size off, the odd one at the bottom and right."""
    across = (hires.scale_to.width - hires.size.width) // 8
    down = (hires.scale_to.height - hires.size.height) // 8
    height, width = latents.shape[-2:]
    top, left = down // 2, across // 2
    return latents[:, :, top : height - (down + 1) // 2, left : width - (across + 1) // 2]
