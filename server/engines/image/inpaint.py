"""Inpainting in latents: what noise is put on, and what keeps the rest of the picture as it was.

| sampler | where the old latents are blended in |
|---|---|
| by sigma | into what the model answers |
| by time | into what the model is asked; the sampler's own latent is left alone |
"""

from dataclasses import dataclass

import torch

from server.core.image import Inpaint, Seeds, SoftInpaint
from server.engines.image.generators import stream
from server.engines.image.guidance import Eps
from server.engines.image.samplers import Model
from server.engines.image.seeds import picture_seeds
from server.engines.image.soft_inpainting import blend


@dataclass(frozen=True)
class Blend:
    """The old latents [batch, C, h, w] and the mask [h, w], 1 where they are made anew, both on the latents' device."""

    old: torch.Tensor
    remade: torch.Tensor
    soft: SoftInpaint | None = None

    def mixed(self, new: torch.Tensor, level: float) -> torch.Tensor:
        """Return the latents with the old ones blended in, at a noise level (sigma, or time for samplers by time)."""
        if self.soft is not None:
            return blend(self.soft, self.old, new, self.remade, level)
        return new * self.remade + self.old * (1 - self.remade)

    def around(self, model: Model) -> Model:
        """Return the model with the blend before or after each call. For `around_model`."""
        return _Blended(model, self)

    def last(self, x: torch.Tensor) -> torch.Tensor:
        """Return the latents of the result; soft inpainting leaves them as they are. For `after_loop`."""
        return x if self.soft is not None else self.mixed(x, 0.0)


class _Blended:
    def __init__(self, model: Model, blend: Blend) -> None:
        self._model = model
        self._blend = blend

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return self._blend.mixed(self._model(x, sigma), float(sigma))

    def eps(self, x: torch.Tensor, t: float) -> Eps:
        return self._model.eps(self._blend.mixed(x, t), t)


def filled(latent: torch.Tensor, remade: torch.Tensor, asked: Inpaint, seeds: Seeds) -> torch.Tensor:
    """Return latents [batch, C, h, w] with noise or nothing under the mask, where that is asked for.

    The noise is the first draw of each picture's seed in the job's first batch, without variation.
    """
    if asked.content == "nothing":
        return latent * (1 - remade)
    if asked.content == "noise":
        return latent * (1 - remade) + _noise(latent, seeds) * remade
    return latent


def _noise(latent: torch.Tensor, seeds: Seeds) -> torch.Tensor:
    shape = tuple(latent.shape[1:])
    firsts = [picture_seeds(seeds, index)[0] for index in range(len(latent))]
    return torch.stack([stream(seeds.source, seed, latent.device).normal(shape).to(latent) for seed in firsts])
