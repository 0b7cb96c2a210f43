"""A unit's map: made once for a job, then brought to the size of each pass."""

from dataclasses import dataclass, field

import msgspec
import numpy as np
import torch

from server.core.image import ControlUnit, ImageRequest, Preprocessing, Size
from server.engines.image.control.sources import PARAM, WHITE, Source, source_of
from server.engines.image.pictures import png
from server.engines.image.preprocess.fitting import fitted, perfect_resolution
from server.engines.image.preprocess.modules import INPAINTING, Module, map_of, shown
from server.engines.image.preprocess.resampling import Pixels, resized
from server.engines.input_pictures import decoded, flattened

CELL = 8


@dataclass
class Hint:
    """The map of one unit. `at` gives it for a size, and remembers the sizes it was asked for."""

    source: Source
    map: Pixels
    _sizes: dict[Size, Pixels] = field(default_factory=dict)

    @property
    def module(self) -> str:
        """The module that made the map."""
        return self.source.preprocessing.module

    @property
    def is_inpainting(self) -> bool:
        """Tell whether the map has a fourth channel."""
        return self.module in INPAINTING

    def at(self, size: Size) -> Pixels:
        """Return the map [height, width, 3 or 4] at the size of a pass."""
        if size not in self._sizes:
            self._sizes[size] = fitted(self.map, size.width, size.height, self.source.fit)
        return self._sizes[size]

    def tensor(self, size: Size) -> torch.Tensor:
        """Return the map as networks see it, [1, 3, height, width], 0 ... 1; what inpainting leaves open is -1."""
        values = torch.from_numpy(self.at(size).astype(np.float32) / 255).permute(2, 0, 1)[None]
        if values.shape[1] == 3:
            return values
        open_ = (values[:, 3:] > 0.5).float()
        return values[:, :3] * (1 - open_) - open_

    def file(self, size: Size) -> bytes:
        """Return the map at a size as PNG."""
        return png(shown(self.at(size)))


def hint_of(unit: ControlUnit, request: ImageRequest, by_network: Module | None = None) -> Hint:
    """Decode and preprocess a unit's picture; `by_network` draws for modules that need one.

    Raises:
        BadImage: a file is no picture.
    """
    source = source_of(unit, request)
    asked = _perfect(source, request.size) if unit.pixel_perfect else source.preprocessing
    return Hint(source, map_of(source.pixels, source.mask, asked, by_network))


def region_of(unit: ControlUnit, size: Size) -> torch.Tensor | None:
    """Return where a unit acts, [1, 1, height, width], 0 ... 1; None for everywhere."""
    if unit.region is None:
        return None
    pixels = np.asarray(flattened(decoded(unit.region, PARAM), WHITE).getchannel(0))[:, :, None]
    return torch.from_numpy(resized(pixels, size.width, size.height, "area").astype(np.float32) / 255).permute(2, 0, 1)[
        None
    ]


def _perfect(source: Source, size: Size) -> Preprocessing:
    height, width = source.pixels.shape[:2]
    wanted = size.width // CELL * CELL, size.height // CELL * CELL
    resolution = perfect_resolution(width, height, wanted, source.fit)
    return msgspec.structs.replace(source.preprocessing, resolution=max(resolution, 1))
