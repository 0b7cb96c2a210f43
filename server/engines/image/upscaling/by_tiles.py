"""A network over a picture, tile by tile."""

from collections.abc import Iterable
from typing import Literal

import numpy as np
import torch
from PIL import Image

from server.core.errors import Broken
from server.engines.image.enlarging import Growing, Pixels
from server.engines.image.upscaling.nets import Network
from server.engines.image.upscaling.tiles import Layout, joined, layout, split


class NetworkEnlarger:
    """Enlarges by a network that is on `device` in `dtype`, on tiles of `tile` pixels (0 = the whole at once)."""

    def __init__(
        self, network: Network, *, device: torch.device, dtype: torch.dtype, tile: int = 0, overlap: int = 0
    ) -> None:
        self._network = network
        self._device = device
        self._dtype = dtype
        self._tile = tile
        self._overlap = overlap

    def size_after(self, size: Pixels, factor: float) -> Pixels:
        """Return the size of what a pass makes."""
        return size[0] * self._network.scale, size[1] * self._network.scale

    def pieces(self, size: Pixels) -> int:
        """Return how many tiles a pass has."""
        return self._layout(self._whole(size)).count if self._tile else 1

    def enlarge(self, image: Image.Image, factor: float) -> Growing:
        """Do a pass over the image as RGB."""
        image = image.convert("RGB")
        if not self._tile:
            whole = self._run(image)
            yield
            return whole
        lay = self._layout(self._whole(image.size))
        made = []
        for tile in _one_by_one(split(_filled(image, lay.size), lay)):
            made.append(self._run(tile))
            yield
        result = joined(made, lay.scaled(self._network.scale), middle=True)
        wanted = self.size_after(image.size, factor)
        return result if result.size == wanted else result.crop((0, 0, *wanted))

    def _whole(self, size: Pixels) -> Pixels:
        """Return the size up to whole squares of the network."""
        multiple = self._network.multiple
        return -(-size[0] // multiple) * multiple, -(-size[1] // multiple) * multiple

    def _layout(self, size: Pixels) -> Layout:
        multiple = self._network.multiple
        side = max(self._tile // multiple, 1) * multiple
        shared = min(self._overlap * self._network.fold, side // 2)
        return layout(size, (side, side), min(self._overlap, side // 2), shared=shared, multiple=multiple)

    def _run(self, image: Image.Image) -> Image.Image:
        """Run the network once. It gets blue, green, red, as in A1111 1.10; results are rounded."""
        pixels = np.ascontiguousarray(np.asarray(image)[:, :, ::-1].transpose(2, 0, 1))
        values = torch.from_numpy(pixels).to(self._device).to(self._dtype) / 255
        with torch.inference_mode():
            result = self._network.run(values[None])[0].float()
        if not bool(torch.isfinite(result).all()):
            raise Broken('the upscaler made values that are no numbers; [image] dtype = "float32" may help')
        made = (result.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
        return Image.fromarray(np.ascontiguousarray(made.transpose(1, 2, 0)[:, :, ::-1]))


def _filled(image: Image.Image, size: Pixels) -> Image.Image:
    """Return the image with its right and lower edge mirrored, or drawn out where it is too narrow for that."""
    if image.size == size:
        return image
    across, down = size[0] - image.width, size[1] - image.height
    mode: Literal["reflect", "edge"] = "reflect" if across < image.width and down < image.height else "edge"
    return Image.fromarray(np.pad(np.asarray(image), ((0, down), (0, across), (0, 0)), mode=mode))


def _one_by_one(tiles: list[Image.Image]) -> Iterable[Image.Image]:
    """Yield tiles and forget them."""
    while tiles:
        yield tiles.pop(0)
