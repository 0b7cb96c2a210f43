"""Where a job begins that is given pictures: latents, what is blended into them, what the UNet sees besides.

Encodings are samples of the VAE's posterior. A1111 draws them from torch's global generator wherever the last request
left it, so it does not repeat its own picture to the last level. Ours is the draw that a request finds which follows
one with the same seeds: the seed of the job's last picture. It is made once and is the same for all batches.
"""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from server.core.errors import InvalidValue, Unsupported
from server.core.image import ImageRequest, InitImages, Size
from server.engines.image.denoise import Entry
from server.engines.image.enlarging import Enlarger
from server.engines.image.finishing import Finishing
from server.engines.image.init_images import Sources, prepared
from server.engines.image.inpaint import Blend, filled
from server.engines.image.layouts.family import PictureInputs
from server.engines.image.masks import latent_mask
from server.engines.image.pictures import from_image
from server.engines.image.vae import Vae

MOST_ENCODED = 16_777_216
"""Pixels of a picture that is encoded at its own size (mode `latent`)."""


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """What all batches of a job begin with.

    `latent` is [batch, C, h, w] on the latents' device; `seen` is `Condition.image`, None for most models.
    """

    latent: torch.Tensor
    finishing: Finishing
    blend: Blend | None = None
    seen: torch.Tensor | None = None

    @property
    def has_blank_mask(self) -> bool:
        """Tell whether a mask was given that masks nothing, so that it was left out."""
        return self.finishing.sources.blank_mask


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How pictures are encoded: the VAE, what the UNet sees besides latents, the generator of the samples, where to."""

    vae: Vae
    inputs: PictureInputs
    noise: torch.Generator | None
    device: torch.device


def begin(request: ImageRequest, init: InitImages, encoding: Encoding, by: Enlarger | None = None) -> Beginning:
    """Decode, fit and encode the pictures of a job; `by` enlarges in place of the filter that `init` names.

    Raises:
        BadImage: a file is no picture or does not fit.
        Unsupported: the mode `latent` with a checkpoint that sees the picture.
    """
    if init.resize == "latent" and encoding.inputs != "none":
        raise Unsupported.of("resize_mode", "checkpoints that see the picture need it at the size of the result")
    sources = prepared(init, request.size, by)
    pixels = _batch(sources, init, request)
    latent = torch.stack([encoding.vae.encode(picture, encoding.noise) for picture in pixels]).to(encoding.device)
    if init.resize == "latent":
        cells = request.size.height // 8, request.size.width // 8
        latent = functional.interpolate(latent, size=cells, mode="bilinear")
    blend = None
    rounded = False
    if init.inpaint is not None and sources.mask is not None:
        rounded = init.inpaint.rounded and init.inpaint.soft is None
        for_latents = sources.latent_mask or sources.mask
        remade = latent_mask(for_latents, *latent.shape[-2:], rounded=rounded).to(latent.device)
        latent = filled(latent, remade, init.inpaint, request.seeds)
        blend = Blend(latent, remade, init.inpaint.soft)
    return Beginning(
        latent=latent,
        finishing=Finishing(sources=sources, asked=init.inpaint, blend=blend, size=request.size),
        blend=blend,
        seen=_seen(pixels, sources.mask, init.mask_weight, encoding, rounded=rounded),
    )


def entry_of(init: InitImages) -> Entry:
    """Return where in its schedule a job from pictures begins."""
    return Entry(init.strength, exact=init.exact_steps, noise_factor=init.noise_multiplier)


def nothing_seen(batch: int, size: Size, encoding: Encoding) -> torch.Tensor | None:
    """Return what the UNet sees where there is no picture: all of it masked, and grey; None for most models.

    Raises:
        Unsupported: for a checkpoint that changes pictures and cannot begin without one.
    """
    if encoding.inputs == "none":
        return None
    if encoding.inputs == "pix2pix":
        raise Unsupported.of("init_images", "this checkpoint changes pictures; it makes none from a prompt alone")
    grey = torch.zeros(3, size.height, size.width)
    latents = torch.stack([encoding.vae.encode(grey, encoding.noise) for _ in range(batch)]).to(encoding.device)
    return torch.cat([torch.ones_like(latents[:, :1]), latents], dim=1)


def _batch(sources: Sources, init: InitImages, request: ImageRequest) -> list[torch.Tensor]:
    """Return the pictures as tensors, one for each of a batch."""
    images = [source.picture for source in sources.pictures]
    if init.resize == "latent":
        for image in images:
            if min(image.size) < 8 or image.width * image.height > MOST_ENCODED:
                raise InvalidValue.of("init_images", f"a picture of {image.width}x{image.height} cannot be encoded")
    pixels = [from_image(image) for image in images]
    if len({picture.shape for picture in pixels}) > 1:
        raise InvalidValue.of("init_images", "pictures of one batch must be of one size for this resize mode")
    return pixels * request.batch_size if len(pixels) == 1 else pixels


def _seen(
    pixels: list[torch.Tensor], mask: Image.Image | None, weight: float, encoding: Encoding, *, rounded: bool
) -> torch.Tensor | None:
    match encoding.inputs:
        case "none":
            return None
        case "pix2pix":
            modes = [encoding.vae.encode(picture, None) / encoding.vae.scale for picture in pixels]
            return torch.stack(modes).to(encoding.device)
        case "inpaint":
            shades = _shades(mask, pixels[0], rounded=rounded)
            hidden = [torch.lerp(picture, picture * (1 - shades), weight) for picture in pixels]
            latents = torch.stack([encoding.vae.encode(each, encoding.noise) for each in hidden])
            cells = functional.interpolate(shades[None, None], size=latents.shape[-2:])
            return torch.cat([cells.expand(len(latents), -1, -1, -1), latents], dim=1).to(encoding.device)


def _shades(mask: Image.Image | None, picture: torch.Tensor, *, rounded: bool) -> torch.Tensor:
    """Return the mask in pixels, [H, W]; all of the picture where there is none."""
    if mask is None:
        return torch.ones(picture.shape[-2:])
    shades = torch.from_numpy(np.asarray(mask.convert("L"), dtype=np.float32) / 255)
    return shades.round() if rounded else shades
