"""Lines of a photograph (Chan, Isola and Durand 2022, arXiv 2203.12691) in the layout of `sk_model.pth`.

A generator of residual blocks: down by 4, three blocks, up by 4; instance normalisation without weights of its own.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from server.core.image import Preprocessing
from server.engines.image.annotators.base import device_of, filled, grey, tensor_of, tensors_of
from server.engines.image.preprocess.resampling import Pixels

WIDTH, BLOCKS = 64, 3
FOLD = 4
SMALLEST = 16


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(width, width, 3),
            nn.InstanceNorm2d(width),
            nn.ReLU(),
            nn.ReflectionPad2d(1),
            nn.Conv2d(width, width, 3),
            nn.InstanceNorm2d(width),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x with what the block adds."""
        added: torch.Tensor = self.conv_block(x)
        return x + added


def _halving(inside: int) -> list[nn.Module]:
    return [nn.Conv2d(inside, 2 * inside, 3, stride=2, padding=1), nn.InstanceNorm2d(2 * inside), nn.ReLU()]


def _doubling(inside: int) -> list[nn.Module]:
    up = nn.ConvTranspose2d(inside, inside // 2, 3, stride=2, padding=1, output_padding=1)
    return [up, nn.InstanceNorm2d(inside // 2), nn.ReLU()]


class SketchNet(nn.Module):
    """Gives [1, 1, h, w], 1 = paper and 0 = line, for [1, 3, h, w], 0 ... 1, with sides that are multiples of 4."""

    def __init__(self, width: int = WIDTH, blocks: int = BLOCKS) -> None:
        super().__init__()
        self.model0 = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(3, width, 7), nn.InstanceNorm2d(width), nn.ReLU())
        self.model1 = nn.Sequential(*_halving(width), *_halving(2 * width))
        self.model2 = nn.Sequential(*(_Residual(4 * width) for _ in range(blocks)))
        self.model3 = nn.Sequential(*_doubling(4 * width), *_doubling(2 * width))
        self.model4 = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(width, 1, 7), nn.Sigmoid())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the drawing."""
        for part in (self.model0, self.model1, self.model2, self.model3, self.model4):
            x = part(x)
        return x


class Sketch:
    """Draws lines, white on black."""

    def __init__(self, network: SketchNet) -> None:
        self.network: nn.Module = network

    @classmethod
    def load(cls, path: Path, *, allow_pickle: bool) -> "Sketch":
        """Read a file; raise LoadFailed when it does not hold this network."""
        state = tensors_of(path, allow_pickle=allow_pickle)
        network = SketchNet()
        filled(network, state, path.name)
        return cls(network)

    def draw(self, pixels: Pixels, asked: Preprocessing) -> Pixels:
        """Return the map."""
        height, width = pixels.shape[:2]
        down, across = max(-height % FOLD, SMALLEST - height), max(-width % FOLD, SMALLEST - width)
        whole = np.pad(pixels, ((0, down), (0, across), (0, 0)), mode="edge")
        with torch.inference_mode():
            paper = self.network(tensor_of(whole, device_of(self.network)) / 255)[0, 0, :height, :width]
        return grey(1 - paper)
