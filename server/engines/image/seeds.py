"""Where a batch's noise comes from: seeds, variation seeds, resized seeds, and the draws of ancestral samplers.

Each picture has a generator of its own, so a picture of a batch equals the picture made alone. The rules are A1111's
(1.10), checked against its recorded noise. This module draws noise; scaling it to a sigma is the sampler's start.
"""

from collections.abc import Sequence

import torch

from server.core.image import Seeds
from server.engines.image.brownian import BrownianNoise, BrownianTree, Draw, batched
from server.engines.image.generators import NormalStream, stream

LatentShape = tuple[int, int, int]
"""(channels, height // 8, width // 8)."""

_NEARLY_PARALLEL = 0.9995


def picture_seeds(seeds: Seeds, index: int) -> tuple[int, int]:
    """Return (seed, variation seed) of picture `index` (from 0) of the job."""
    seed = seeds.first if seeds.variation_strength != 0 else seeds.first + index
    return seed, seeds.variation + index


def slerp(share: float, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Mix two noise tensors [C, h, w] on the sphere, `share` of b.

    Norms and angles are taken along h, for each channel and column by itself, and nearly equal tensors are mixed with
    swapped weights: so A1111 does it, and the same seeds shall give the same picture.
    """
    cosine = (a / a.norm(dim=1, keepdim=True) * (b / b.norm(dim=1, keepdim=True))).sum(1)
    if cosine.mean() > _NEARLY_PARALLEL:
        return a * share + b * (1 - share)
    angle = torch.acos(cosine)
    sine = torch.sin(angle)
    return (torch.sin((1.0 - share) * angle) / sine).unsqueeze(1) * a + (torch.sin(share * angle) / sine).unsqueeze(
        1
    ) * b


class NoiseSource:
    """All draws of one pass over one batch of pictures. A hires pass has a source of its own, with the same seeds.

    Args:
        seeds: The job's seeds.
        pictures: Numbers (from 0) of the batch's pictures in the job.
        shape: Latent shape of one picture.
        device: Where noise is wanted, and drawn when the seeds' source is `device`.
        dtype: Of what is returned by `next` and `brownian`; draws are float32 always.

    Raises:
        InvalidValue: A seed is outside what generators take.
    """

    def __init__(
        self,
        seeds: Seeds,
        pictures: Sequence[int],
        shape: LatentShape,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._seeds = seeds
        self._shape = shape
        self._device = torch.device(device)
        self._dtype = dtype
        self._pairs = [picture_seeds(seeds, index) for index in pictures]
        self._streams: list[NormalStream] = []
        self._begin(0)

    def first(self) -> torch.Tensor:
        """Start anew and return the initial noise, [batch, C, h, w] float32 of unit variance."""
        self._begin(0)
        drawn = [
            self._initial(source, seed, variation)
            for source, (seed, variation) in zip(self._streams, self._pairs, strict=True)
        ]
        if self._seeds.later_delta != 0:
            self._begin(self._seeds.later_delta)
        return torch.stack(drawn)

    def next(self) -> torch.Tensor:
        """Return one further draw of every picture's generator, [batch, C, h, w]. Call `first` before."""
        drawn = [source.normal(self._shape).to(self._device, self._dtype) for source in self._streams]
        return torch.stack(drawn)

    def brownian(self, sigma_min: float, sigma_max: float) -> BrownianNoise:
        """Return noise that is a function of the sigmas it is asked for.

        `sigma_min` is the smallest positive sigma of the whole schedule, even where only its tail is used. Neither
        variation seeds nor the delta for later draws matter here.
        """
        return batched([BrownianTree(sigma_min, sigma_max, seed, self._node_draw()) for seed, _ in self._pairs])

    def posterior(self) -> torch.Generator | None:
        """Return the CPU generator from which A1111 samples a VAE encoding in mid-job (hires), fresh.

        It stands at the seed of the batch's last picture. None for `philox`, where A1111 leaves it unseeded.
        """
        if self._seeds.source == "philox":
            return None
        return torch.Generator("cpu").manual_seed(self._pairs[-1][0])

    def _begin(self, delta: int) -> None:
        self._streams = [self._stream(seed + delta) for seed, _ in self._pairs]

    def _stream(self, seed: int) -> NormalStream:
        return stream(self._seeds.source, seed, self._device)

    def _node_draw(self) -> Draw:
        return lambda seed: self._stream(seed).normal(self._shape).to(self._device, self._dtype)

    def _initial(self, source: NormalStream, seed: int, variation: int) -> torch.Tensor:
        resize = self._seeds.resize_from
        small = self._shape
        if resize is not None and resize.width > 0 and resize.height > 0:
            small = (self._shape[0], resize.height // 8, resize.width // 8)
        # At another size the seed's noise comes from a stream aside; the picture's own then draws the frame around it.
        noise = self._wanted(source if small == self._shape else self._stream(seed), small)
        if self._seeds.variation_strength != 0:
            noise = slerp(self._seeds.variation_strength, noise, self._wanted(self._stream(variation), small))
        return noise if small == self._shape else _centred(noise, self._wanted(source, self._shape))

    def _wanted(self, source: NormalStream, shape: LatentShape) -> torch.Tensor:
        return source.normal(shape).to(self._device)


def _centred(small: torch.Tensor, canvas: torch.Tensor) -> torch.Tensor:
    """Return `canvas` [C, H, W] with `small` [C, h, w], or the middle of it where it is larger, in its middle."""
    target, source = [], []
    for axis in (1, 2):
        margin = (canvas.shape[axis] - small.shape[axis]) // 2
        length = small.shape[axis] + min(0, 2 * margin)
        target.append(slice(max(0, margin), max(0, margin) + length))
        source.append(slice(max(0, -margin), max(0, -margin) + length))
    canvas = canvas.clone()
    canvas[:, target[0], target[1]] = small[:, source[0], source[1]]
    return canvas
