"""Latents to pictures and back, one picture at a time, with the checkpoint's autoencoder."""

import logging

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from server.core.errors import Broken
from server.engines.image.encodings import Encodings
from server.engines.image.headroom import Room
from server.engines.image.placement import Placement, release, visiting
from server.engines.image.vae_tiles import CELL, decode_in_tiles

logger = logging.getLogger(__name__)


class Vae:
    """Owns how the autoencoder is called: scale, dtype, and float32 for good once half precision has failed.

    `scale` multiplies what the encoder gives and divides what the decoder gets. Pictures for which there is no `room`
    are decoded in tiles (None = there always is, until memory runs out).
    """

    def __init__(self, model: AutoencoderKL, placement: Placement, scale: float, room: Room | None = None) -> None:
        self._model = model
        self._placement = placement
        self._scale = scale
        self._room = room
        self._encodings = Encodings()

    def of(self, model: AutoencoderKL) -> "Vae":
        """Return another autoencoder called in the same way."""
        return Vae(model, self._placement, self._scale, self._room)

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
        if not picture.isfinite().all() and self._widened():
            picture = self._decode(latent)
        if not picture.isfinite().all():
            raise Broken("the VAE made a picture of no numbers (NaN); the checkpoint or its VAE is damaged")
        return picture

    def encode(self, picture: torch.Tensor, noise: torch.Generator | None) -> torch.Tensor:
        """Return the latent [C, H // 8, W // 8] float32 of one picture [3, H, W], -1 ... 1.

        A sample of the posterior with the next draw of `noise` (a CPU generator), its mean when that is None.
        """
        mean, std = self._posterior(picture)
        if not mean.isfinite().all() and self._widened():
            mean, std = self._posterior(picture)
        if not mean.isfinite().all():
            raise Broken("the VAE made a latent of no numbers (NaN); the checkpoint or its VAE is damaged")
        if noise is not None:
            mean = mean + std * torch.randn(mean.shape, generator=noise).to(mean.device)
        return mean[0] * self._scale

    def _posterior(self, picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and deviation, from memory where the picture is known."""
        wrapping = next((m.padding_mode for m in self._model.modules() if isinstance(m, torch.nn.Conv2d)), "")
        return self._encodings.of(picture, (self._model.dtype, wrapping), self._encode)

    def _encode(self, picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and deviation of the posterior, [1, C, H // 8, W // 8] float32."""
        with torch.no_grad(), visiting(self._model, self._placement):
            posterior = self._model.encode(picture[None].to(self._placement.device, self._model.dtype)).latent_dist
            return posterior.mean.float(), posterior.std.float()

    def _widened(self) -> bool:
        """Have the model in float32 for good; tell whether that is new."""
        if self._model.dtype == torch.float32:
            return False
        logger.warning("the VAE overflows in %s; it runs in float32 from now on", self._model.dtype)
        self._model.to(torch.float32)
        return True

    def _decode(self, latent: torch.Tensor) -> torch.Tensor:
        with torch.no_grad(), visiting(self._model, self._placement):
            scaled = (latent / self._scale)[None].to(self._placement.device, self._model.dtype)
            height, width = latent.shape[-2] * CELL, latent.shape[-1] * CELL
            if self._room is None or self._room.has_whole_decode(height, width):
                try:
                    whole: torch.Tensor = self._model.decode(scaled).sample[0].float().cpu()
                    return whole
                except torch.OutOfMemoryError:
                    logger.warning("decoding %d x %d pixels in one piece ran out of memory", width, height)
                release(self._placement)
            logger.info("decoding %d x %d pixels in tiles", width, height)
            return decode_in_tiles(self._model, scaled)[0]
