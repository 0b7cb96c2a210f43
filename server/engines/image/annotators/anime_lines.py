"""Lines of a drawing in the layout of `netG.pth`: the U-shaped generator of pix2pix (Isola 2017, arXiv 1611.07004).

Eight halvings, each joined to its doubling; a picture's sides are brought to multiples of 256 and back.
"""

from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from server.core.image import Preprocessing
from server.engines.image.annotators.base import device_of, filled, grey, tensor_of, tensors_of
from server.engines.image.preprocess.resampling import Pixels

HALVINGS, WIDTH, MOST_TIMES = 8, 64, 8
SIDE = 2**HALVINGS


class _Level(nn.Module):
    """One halving with all that lies below it; `model` is numbered as in the files."""

    def __init__(self, outside: int, inside: int, *, below: "nn.Module | None", first: bool = False) -> None:
        super().__init__()
        down = nn.Conv2d(3 if first else outside, inside, 4, stride=2, padding=1)
        up = nn.ConvTranspose2d(inside if below is None else 2 * inside, 1 if first else outside, 4, 2, 1)
        if first:
            assert below is not None
            parts = [down, below, nn.ReLU(), up, nn.Tanh()]
        elif below is None:
            parts = [nn.LeakyReLU(0.2), down, nn.ReLU(), up, nn.InstanceNorm2d(outside)]
        else:
            norms = nn.InstanceNorm2d(inside), nn.InstanceNorm2d(outside)
            parts = [nn.LeakyReLU(0.2), down, norms[0], below, nn.ReLU(), up, norms[1]]
        self.model = nn.Sequential(*parts)
        self._first = first

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the drawing, or what came in with what the level made of it behind it."""
        made: torch.Tensor = self.model(x)
        return made if self._first else torch.cat([x, made], dim=1)


class AnimeLinesNet(nn.Module):
    """Gives [1, 1, h, w], 1 = paper and -1 = line, for [1, 3, h, w], -1 ... 1."""

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        widths = [min(2**level, MOST_TIMES) * width for level in range(HALVINGS)]
        below: nn.Module | None = None
        for level in range(HALVINGS - 1, 0, -1):
            below = _Level(widths[level - 1], widths[level], below=below)
        self.model = _Level(1, width, below=below, first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the drawing."""
        made: torch.Tensor = self.model(x)
        return made


class AnimeLines:
    """Draws lines, white on black."""

    def __init__(self, network: AnimeLinesNet) -> None:
        self.network: nn.Module = network

    @classmethod
    def load(cls, path: Path, *, allow_pickle: bool) -> "AnimeLines":
        """Read a file; raise LoadFailed when it does not hold this network."""
        state = tensors_of(path, allow_pickle=allow_pickle)
        network = AnimeLinesNet()
        filled(network, state, path.name)
        return cls(network)

    def draw(self, pixels: Pixels, asked: Preprocessing) -> Pixels:
        """Return the map."""
        height, width = pixels.shape[:2]
        inner = -(-height // SIDE) * SIDE, -(-width // SIDE) * SIDE
        with torch.inference_mode():
            values = tensor_of(pixels, device_of(self.network)) / 127.5 - 1
            paper = self.network(
                functional.interpolate(values, size=inner, mode="bicubic", align_corners=False).clamp(-1, 1)
            )
            paper = functional.interpolate(paper, size=(height, width), mode="bilinear", align_corners=False)
        return grey(1 - (paper[0, 0] + 1) / 2)
