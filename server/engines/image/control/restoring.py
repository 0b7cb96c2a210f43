"""`inpaint_only`: what a unit's mask leaves shut stays as it was, in the latents of each call and in the picture.

In latents the mask reaches a little beyond its edge, in pixels it fades over a few; the rest is the unit's picture.
"""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from server.engines.image.guidance import Eps
from server.engines.image.preprocess.resampling import Pixels
from server.engines.image.preprocess.smoothing import mean, swollen
from server.engines.image.samplers import Model

FADE = 7
"""Pixels over which the new part and the old picture fade."""


@dataclass(frozen=True, kw_only=True)
class Restored:
    """The old latent [1, C, h, w], the mask [1, 1, h, w] (1 = open), and how far the old one is restored, 0 ... 1."""

    old: torch.Tensor
    open: torch.Tensor
    share: float
    alphas: torch.Tensor

    def around(self, model: Model) -> Model:
        """Return the model with the old latent in what it answers. For `around_model`."""
        return _Restoring(model, self)

    def mixed(self, x0: torch.Tensor) -> torch.Tensor:
        """Return what a latent is taken to be, with the old one where it is shut."""
        return torch.lerp(x0, x0 * self.open + self.old * (1 - self.open), self.share)


class _Restoring:
    def __init__(self, model: Model, restored: Restored) -> None:
        self._model = model
        self._restored = restored

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return self._restored.mixed(self._model(x, sigma))

    def eps(self, x: torch.Tensor, t: float) -> Eps:
        found = self._model.eps(x, t)
        alphas = self._restored.alphas
        alpha = alphas[min(max(int(t), 0), len(alphas) - 1)].to(x)
        return Eps(*(self._through_x0(each, x, alpha) for each in found))

    def _through_x0(self, eps: torch.Tensor, x: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
        x0 = self._restored.mixed((x - (1 - alpha).sqrt() * eps) / alpha.sqrt())
        return (x - alpha.sqrt() * x0) / (1 - alpha).sqrt()


def open_cells(mask: Pixels) -> torch.Tensor:
    """Return a mask [height, width] for latents, [1, 1, h, w]: a cell is open when anything in or beside it is."""
    values = torch.from_numpy((mask > 127).astype(np.float32))[None, None]
    return functional.max_pool2d(values, 10, stride=8, padding=1)


def laid_into(image: Image.Image, map_: Pixels) -> Image.Image:
    """Return a picture with the colours of a map [height, width, 4] where its mask is shut; others are left alone."""
    if image.size != (map_.shape[1], map_.shape[0]):
        return image
    shade = mean(swollen((map_[:, :, 3] > 127).astype(np.float32), FADE), FADE)[:, :, None]
    mixed = shade * np.asarray(image, dtype=np.float32) + (1 - shade) * map_[:, :, :3]
    return Image.fromarray(np.rint(mixed).clip(0, 255).astype(np.uint8))
