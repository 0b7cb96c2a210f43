"""From a UNet's raw output to a denoised latent D(x, sigma), or to eps(x, t), for each kind of prediction.

The scalings are k-diffusion's for discrete models trained without data scaling; consistency models (LCM) add the
boundary scaling of Luo et al. 2023. A UNet is called with x already scaled, one time for each row and a condition;
this module knows nothing of prompts or guidance.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

import torch

from server.engines.image.sigma_table import SigmaTable

Prediction = Literal["eps", "v"]

_CONSISTENCY_DATA_VARIANCE = 0.25  # 0.5 squared
_CONSISTENCY_TIME_SCALE = 10.0


@dataclass(frozen=True)
class Condition:
    """What the rows of a UNet call are conditioned on.

    `text` is [rows, tokens, width]. SDXL models have a `vector` [rows, n] too: the pooled text, then sizes as plain
    numbers. Inpainting and InstructPix2Pix models have an `image` [rows, extra channels, h, w], which the UNet gets
    beside the latents. `prompted` [rows] is 1 for rows of a prompt and 0 for those of a negative prompt; None = nobody
    says.
    """

    text: torch.Tensor
    vector: torch.Tensor | None = None
    image: torch.Tensor | None = None
    prompted: torch.Tensor | None = None

    def rows(self, rows: slice) -> "Condition":
        """Return some of the rows."""
        more = (_some_rows(each, rows) for each in (self.vector, self.image, self.prompted))
        return Condition(self.text[rows], *more)

    def joined(self, other: "Condition") -> "Condition":
        """Return these rows, then those of `other`, which has as many tokens."""
        return Condition(
            torch.cat([self.text, other.text]),
            _both(self.vector, other.vector),
            _both(self.image, other.image),
            _both(self.prompted, other.prompted),
        )


class UNet(Protocol):
    """The network: latents [rows, C, h, w], times [rows], condition of as many rows -> prediction like the latents."""

    def __call__(self, x: torch.Tensor, t: torch.Tensor, condition: Condition) -> torch.Tensor:
        """Run the network once."""
        ...


class Denoiser(Protocol):
    """Two views of one model: denoised latents by sigma, or predicted noise by time. `sigma` and `t` are [rows]."""

    def denoised(self, x: torch.Tensor, sigma: torch.Tensor, condition: Condition) -> torch.Tensor:
        """Return D(x, sigma), like x; x carries noise of standard deviation sigma."""
        ...

    def eps(self, x: torch.Tensor, t: torch.Tensor, condition: Condition) -> torch.Tensor:
        """Return the predicted noise, like x; x is a variance-preserving mix at time t."""
        ...

    def x0(self, x: torch.Tensor, eps: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Return the latent that x would be without the noise `eps`, at times t rounded down."""
        ...


class DiscreteDenoiser:
    """A model trained at discrete times, predicting eps or v.

    Args:
        unet: The network.
        alphas: Its `alphas_cumprod` [1000].
        prediction: What the network predicts.
        quantise_times: Round model times to whole ones.
        time_dtype: Precision in which the network gets its times. float32; A1111 1.10 with half precision: float16.
    """

    def __init__(
        self,
        unet: UNet,
        alphas: torch.Tensor,
        *,
        prediction: Prediction = "eps",
        quantise_times: bool = False,
        time_dtype: torch.dtype = torch.float32,
    ) -> None:
        self._unet = unet
        self._alphas = alphas.to(torch.float32)
        self._prediction = prediction
        self._time_dtype = time_dtype
        self.table = SigmaTable.of(alphas, quantised=quantise_times)

    def denoised(self, x: torch.Tensor, sigma: torch.Tensor, condition: Condition) -> torch.Tensor:
        """Return D(x, sigma)."""
        out = self._call(x * _rows(1 / (sigma**2 + 1.0) ** 0.5, x), self.table.t(sigma), condition)
        return denoised_from(out, x, sigma, self._prediction)

    def eps(self, x: torch.Tensor, t: torch.Tensor, condition: Condition) -> torch.Tensor:
        """Return the predicted noise; v is turned into eps at times rounded down."""
        out = self._call(x, t, condition)
        if self._prediction == "eps":
            return out
        alpha = self._alpha(t, x)
        return alpha.sqrt() * out + (1 - alpha).sqrt() * x

    def x0(self, x: torch.Tensor, eps: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Return the latent behind x."""
        alpha = self._alpha(t, x)
        return (x - (1 - alpha).sqrt() * eps) / alpha.sqrt()

    def _call(self, x: torch.Tensor, t: torch.Tensor, condition: Condition) -> torch.Tensor:
        return self._unet(x, t.to(x.device, self._time_dtype), condition)

    def _alpha(self, t: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        whole = t.to("cpu", torch.long).clamp(0, len(self._alphas) - 1)
        return _rows(self._alphas[whole], x)


class ConsistencyDenoiser:
    """A latent consistency model: a discrete model on a coarse table, scaled so that D(x, 0) = x.

    Args:
        inner: The discrete model, whose `eps` is used.
        alphas: Its `alphas_cumprod` [1000].
    """

    def __init__(self, inner: DiscreteDenoiser, alphas: torch.Tensor) -> None:
        self._inner = inner
        self.table = SigmaTable.consistency(alphas)

    def denoised(self, x: torch.Tensor, sigma: torch.Tensor, condition: Condition) -> torch.Tensor:
        """Return D(x, sigma)."""
        t = self.table.t(sigma)
        eps = self._inner.eps(x * _rows(1 / (sigma**2 + 1.0) ** 0.5, x), t, condition)
        x0 = x + eps * _rows(-sigma, x)
        tau = t * _CONSISTENCY_TIME_SCALE
        keep = _CONSISTENCY_DATA_VARIANCE / (tau**2 + _CONSISTENCY_DATA_VARIANCE)
        take = tau / (tau**2 + _CONSISTENCY_DATA_VARIANCE) ** 0.5
        return _rows(take, x) * x0 + _rows(keep, x) * x

    def eps(self, x: torch.Tensor, t: torch.Tensor, condition: Condition) -> torch.Tensor:
        """Return the predicted noise of the inner model."""
        return self._inner.eps(x, t, condition)

    def x0(self, x: torch.Tensor, eps: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Return the latent behind x."""
        return self._inner.x0(x, eps, t)


def denoised_from(out: torch.Tensor, x: torch.Tensor, sigma: torch.Tensor, prediction: Prediction) -> torch.Tensor:
    """Return D from the network's output [rows, ...] at x and sigma [rows]."""
    if prediction == "eps":
        return x + out * _rows(-sigma, x)
    variance = sigma**2 + 1.0
    return out * _rows(-sigma / variance**0.5, x) + x * _rows(1.0 / variance, x)


def _some_rows(values: torch.Tensor | None, rows: slice) -> torch.Tensor | None:
    return None if values is None else values[rows]


def _both(one: torch.Tensor | None, other: torch.Tensor | None) -> torch.Tensor | None:
    return None if one is None or other is None else torch.cat([one, other])


def _rows(values: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Return [rows] as [rows, 1, 1, 1] on the device of x."""
    return values.to(x.device).reshape(-1, *(1,) * (x.dim() - 1))
