"""The noise levels a model was trained at, and the way between a sigma and a model time.

A table has one sigma for each training time it knows; between them both are interpolated linearly in log sigma
(Karras et al., "Elucidating the design space of diffusion-based generative models", 2022, as k-diffusion applies it).
"""

from dataclasses import dataclass

import torch

TRAINING_TIMES = 1000
_LAST_ALPHA = 4.8973451890853435e-08  # what a zero terminal SNR schedule uses in place of 0
_CONSISTENCY_ENTRIES = 50


def alphas_cumprod(start: float = 0.00085, end: float = 0.012, count: int = TRAINING_TIMES) -> torch.Tensor:
    """Return the share of signal left after each time, [count] float32: scaled linear betas, as SD1, SD2, SDXL."""
    betas = torch.linspace(start**0.5, end**0.5, count, dtype=torch.float64) ** 2
    return torch.cumprod(1.0 - betas, dim=0).to(torch.float32)


def zero_terminal_snr(alphas: torch.Tensor) -> torch.Tensor:
    """Return the table rescaled so that (nearly) no signal is left at its end (Lin et al., 2023)."""
    roots = alphas.sqrt()
    rescaled = ((roots - roots[-1]) * (roots[0] / (roots[0] - roots[-1]))) ** 2
    rescaled[-1] = _LAST_ALPHA
    return rescaled


@dataclass(frozen=True)
class SigmaTable:
    """Sigmas [n] float32 on the CPU, rising; entry i belongs to model time `offset + stride * i`.

    `quantised`: `t` rounds to the nearest entry's time instead of interpolating.
    """

    sigmas: torch.Tensor
    stride: int = 1
    offset: int = 0
    quantised: bool = False

    @classmethod
    def of(cls, alphas: torch.Tensor, *, quantised: bool = False) -> "SigmaTable":
        """Build the table of a model from its `alphas_cumprod` [1000]."""
        return cls(_sigmas(alphas), quantised=quantised)

    @classmethod
    def consistency(cls, alphas: torch.Tensor) -> "SigmaTable":
        """Build the coarse table of latent consistency models: 50 entries, times 19, 39 ... 999 (Luo et al., 2023)."""
        stride = alphas.shape[0] // _CONSISTENCY_ENTRIES
        return cls(_sigmas(alphas[stride - 1 :: stride]), stride=stride, offset=stride - 1, quantised=True)

    @property
    def lowest(self) -> float:
        """The smallest sigma."""
        return float(self.sigmas[0])

    @property
    def highest(self) -> float:
        """The largest sigma."""
        return float(self.sigmas[-1])

    def t(self, sigma: torch.Tensor) -> torch.Tensor:
        """Return the model times of positive sigmas of any shape, float32; fractional unless the table is quantised."""
        logs = self.sigmas.to(sigma.device).log()
        log = sigma.log()
        if self.quantised:
            nearest = (log.unsqueeze(-1) - logs).abs().argmin(dim=-1)
            return (nearest * self.stride + self.offset).to(torch.float32)
        below = (torch.searchsorted(logs, log.contiguous(), right=True) - 1).clamp(0, len(logs) - 2)
        low, high = logs[below], logs[below + 1]
        share = ((low - log) / (low - high)).clamp(0, 1)
        return ((1 - share) * below + share * (below + 1)) * self.stride + self.offset

    def sigma(self, t: torch.Tensor) -> torch.Tensor:
        """Return the sigmas of model times of any shape, float32."""
        position = ((t.to(torch.float32) - self.offset) / self.stride).clamp(0, len(self.sigmas) - 1)
        logs = self.sigmas.to(t.device).log()
        share = position.frac()
        return ((1 - share) * logs[position.floor().long()] + share * logs[position.ceil().long()]).exp()


def _sigmas(alphas: torch.Tensor) -> torch.Tensor:
    return (((1 - alphas) / alphas) ** 0.5).to("cpu", torch.float32)
