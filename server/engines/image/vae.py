"""Latents to pictures and back, one picture at a time, with the checkpoint's autoencoder (a1111-api.md 2.14)."""

import logging

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from server.core.errors import Broken
from server.engines.image.placement import Placement, visiting

logger = logging.getLogger(__name__)


class Vae:
    """Owns how the autoencoder is called: scale, dtype, and float32 for good once half precision has failed.

    `scale` multiplies what the encoder gives and divides what the decoder gets.
    """

    def __init__(self, model: AutoencoderKL, placement: Placement, scale: float) -> None:
        self._model = model
        self._placement = placement
        self._scale = scale

    @property
    def scale(self) -> float:
        """The factor between the encoder's numbers and latents."""
        return self._scale

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """Return the picture [3, h * 8, w * 8] float32 on the CPU, about -1 ... 1, of one latent [C, h, w].

        Raises:
            Broken: the VAE gives no numbers even in float32.
        """
        picture = self._decode(latent)
        if not picture.isfinite().all() and self._model.dtype != torch.float32:
            logger.warning("the VAE overflows in %s; it runs in float32 from now on", self._model.dtype)
            self._model.to(torch.float32)
            picture = self._decode(latent)
        if not picture.isfinite().all():
            raise Broken("the VAE made a picture of no numbers (NaN); the checkpoint or its VAE is damaged")
        return picture

    def encode(self, picture: torch.Tensor, noise: torch.Generator | None) -> torch.Tensor:
        """Return the latent [C, H // 8, W // 8] float32 of one picture [3, H, W], -1 ... 1.

        A sample of the posterior with the next draw of `noise` (a CPU generator), its mean when that is None.
        """
        with torch.no_grad(), visiting(self._model, self._placement):
            posterior = self._model.encode(picture[None].to(self._placement.device, self._model.dtype)).latent_dist
            mean, std = posterior.mean.float(), posterior.std.float()
        if noise is not None:
            mean = mean + std * torch.randn(mean.shape, generator=noise).to(mean.device)
        return mean[0] * self._scale

    def _decode(self, latent: torch.Tensor) -> torch.Tensor:
        with torch.no_grad(), visiting(self._model, self._placement):
            scaled = (latent / self._scale)[None].to(self._placement.device, self._model.dtype)
            picture: torch.Tensor = self._model.decode(scaled).sample[0].float().cpu()
        return picture
