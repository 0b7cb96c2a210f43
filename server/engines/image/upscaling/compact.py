"""Real-ESRGAN's compact network: convolutions at the picture's size, pixels unfolded at the end.

After the description of SRVGGNetCompact in Real-ESRGAN (Wang et al. 2021; used by `realesr-general-x4v3` and
`realesr-animevideov3`): `body` alternates convolutions and activations, the result is added to the enlarged input.
"""

from collections.abc import Mapping
from math import isqrt

import torch
from torch import nn
from torch.nn import functional

from server.core.errors import LoadFailed

COLOURS = 3
State = Mapping[str, torch.Tensor]


class CompactNet(nn.Module):
    """[batch, 3, h, w], 0 ... 1, to [batch, 3, h * scale, w * scale]."""

    def __init__(self, *, width: int, depth: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        layers: list[nn.Module] = [nn.Conv2d(COLOURS, width, 3, padding=1), nn.PReLU(width)]
        for _ in range(depth):
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.PReLU(width)]
        layers.append(nn.Conv2d(width, COLOURS * scale * scale, 3, padding=1))
        self.body = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Enlarge."""
        base = functional.interpolate(x, scale_factor=float(self.scale), mode="nearest")
        return base + functional.pixel_shuffle(self.body(x), self.scale)


def is_compact(state: State) -> bool:
    """Tell whether tensors are those of this network: numbered convolutions with learnt activations between them."""
    numbers = _numbers(state)
    return (
        len(numbers) >= 3
        and all(name.startswith("body.") and name.count(".") == 2 for name in state)
        and state["body.0.weight"].ndim == 4
        and state["body.1.weight"].ndim == 1
        and numbers == list(range(len(numbers)))
    )


def build(state: State) -> CompactNet:
    """Return the network without its weights (on the meta device).

    Raises:
        LoadFailed: it is not one for pictures in three colours.
    """
    last = max(_numbers(state))
    out, scale = state[f"body.{last}.weight"].shape[0], isqrt(state[f"body.{last}.weight"].shape[0] // COLOURS)
    if state["body.0.weight"].shape[1] != COLOURS or scale < 1 or COLOURS * scale * scale != out:
        raise LoadFailed("this compact network is not one for pictures in three colours")
    with torch.device("meta"):
        return CompactNet(width=state["body.0.weight"].shape[0], depth=(last - 2) // 2, scale=scale)


def _numbers(state: State) -> list[int]:
    return sorted({int(name.split(".")[1]) for name in state if name.startswith("body.") and _is_number(name)})


def _is_number(name: str) -> bool:
    parts = name.split(".")
    return len(parts) == 3 and parts[1].isdecimal() and parts[2] == "weight"
