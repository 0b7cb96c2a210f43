"""What all networks for maps have in common."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from server.core.errors import Broken, LoadFailed
from server.core.image import Preprocessing
from server.engines.image.preprocess.resampling import Pixels
from server.engines.image.tensor_files import open_tensors


class Annotator(Protocol):
    """A network in evaluation mode, in float32."""

    @property
    def network(self) -> nn.Module:
        """Return what is moved between devices."""
        ...

    def draw(self, pixels: Pixels, asked: Preprocessing) -> Pixels:
        """Return the map [height, width, 3] of a picture of that size."""
        ...


def tensors_of(path: Path, *, allow_pickle: bool) -> dict[str, torch.Tensor]:
    """Return a file's tensors in float32, without what parallel training put before their names.

    Raises:
        LoadFailed: it is unreadable, or a pickle while those are not allowed.
    """
    with open_tensors(path, allow_pickle=allow_pickle) as file:
        return {name.removeprefix("module."): file.get(name).float() for name in file.shapes}


def filled(network: nn.Module, state: Mapping[str, torch.Tensor], name: str) -> None:
    """Put tensors into a network and switch training off; raise LoadFailed when they are not its own."""
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        lines = str(error).splitlines()
        raise LoadFailed(f"{name} does not hold this network: {lines[-1].strip()[:200]}") from error
    network.eval().requires_grad_(False)


def device_of(network: nn.Module) -> torch.device:
    """Return where a network is."""
    return next(network.parameters()).device


def tensor_of(pixels: Pixels, device: torch.device) -> torch.Tensor:
    """Return a picture as [1, 3, height, width] float32, 0 ... 255."""
    return torch.from_numpy(pixels.copy()).to(device).permute(2, 0, 1)[None].float()


def grey(values: torch.Tensor) -> Pixels:
    """Return [height, width], 0 ... 1, as a map of three equal channels; values are cut off, not rounded.

    Raises:
        Broken: they are no numbers.
    """
    if not bool(torch.isfinite(values).all()):
        raise Broken("the network that draws maps made values that are no numbers")
    plane = (values.clamp(0, 1) * 255).to(torch.uint8).cpu().numpy()
    return plane[:, :, None].repeat(3, axis=2)
