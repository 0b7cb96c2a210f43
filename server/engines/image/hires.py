"""Between the two passes of a hires job: the first picture, scaled (a1111-api.md 2.11)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from PIL import Image
from torch.nn import functional

from server.core.errors import InvalidValue
from server.core.image import HiresPass, Size
from server.engines.image.pictures import from_image, to_image
from server.engines.image.vae import Vae


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

PIXEL_FILTERS = {"lanczos": Image.Resampling.LANCZOS, "nearest": Image.Resampling.NEAREST, "none": None}
"""Filters that enlarge pixels; `none` leaves all to the final Lanczos resize."""

MAX_ROUNDS = 3

UPSCALERS = (*LATENT_MODES, *PIXEL_FILTERS)

Between = Callable[[], torch.Generator | None]
"""Makes the generator from which the VAE's encoding is sampled."""


def upscaled(latents: torch.Tensor, hires: HiresPass, vae: Vae, between: Between) -> torch.Tensor:
    """Return latents [batch, C, h, w] at the size of the second pass, scaled and then cut to `hires.size`."""
    mode = LATENT_MODES.get(hires.upscaler)
    if mode is not None:
        grown = _interpolated(latents, hires.scale_to, mode)
    elif hires.upscaler in PIXEL_FILTERS:
        noise = between()
        pictures = [enlarged(to_image(vae.decode(latent)), hires.scale_to, hires.upscaler) for latent in latents]
        grown = torch.stack([vae.encode(from_image(picture), noise) for picture in pictures])
    else:
        raise InvalidValue.of("upscaler", f"unknown upscaler {hires.upscaler!r}; known are {', '.join(UPSCALERS)}")
    return _cut(grown, hires)


def enlarged(image: Image.Image, size: Size, upscaler: str) -> Image.Image:
    """Return the image at exactly `size`: enlarged by the upscaler to cover it, then by Lanczos.

    The upscaler works towards sides that are multiples of 8, so its result is mostly resized a second time.
    """
    filter_ = PIXEL_FILTERS[upscaler]
    factor = max(size.width / image.width, size.height / image.height)
    if filter_ is not None and factor > 1:
        image = _rounds(image, factor, filter_)
    if image.size != (size.width, size.height):
        image = image.resize((size.width, size.height), Image.Resampling.LANCZOS)
    return image


def _rounds(image: Image.Image, factor: float, filter_: Image.Resampling) -> Image.Image:
    """Enlarge until both sides have reached the wanted ones, floored to multiples of 8 (a1111-api.md 2.13)."""
    wanted = (int(image.width * factor // 8 * 8), int(image.height * factor // 8 * 8))
    for _ in range(MAX_ROUNDS):
        if image.width >= wanted[0] and image.height >= wanted[1]:
            break
        image = image.resize((int(image.width * factor), int(image.height * factor)), filter_)
    return image if image.size == wanted else image.resize(wanted, Image.Resampling.LANCZOS)


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
