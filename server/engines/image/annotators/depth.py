"""Depth by models of the transformers library in a folder: DPT (MiDaS), ZoeDepth, Depth Anything.

| `model_type` | sides are multiples of | short side, unless the folder says | nearest |
|---|---|---|---|
| `dpt` | 32 | 384 | largest |
| `depth_anything` | 14 | 518 | largest |
| `zoedepth` | 32 | 384 | smallest: metres |

White is near. What is drawn is the whole range, for metres the range from the 2nd to the 85th percentile.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from server.core.errors import LoadFailed
from server.core.image import Preprocessing
from server.engines.image.annotators.base import device_of, grey, tensor_of
from server.engines.image.preprocess.resampling import Pixels

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
METRES = "zoedepth"
MULTIPLES = {"dpt": 32, "depth_anything": 14, METRES: 32}
SIDES = {"dpt": 384, "depth_anything": 518, METRES: 384}
NEAREST, FARTHEST = 0.02, 0.85
LARGEST_SIDE = 2048
MOST_JSON = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Seeing:
    """How a model wants to be shown pictures: the short side, what sides are multiples of, and colours' statistics."""

    kind: str
    side: int
    multiple: int
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    deviation: tuple[float, ...] = (0.5, 0.5, 0.5)


class Depth:
    """Draws depth."""

    def __init__(self, network: nn.Module, seeing: Seeing) -> None:
        self.network = network
        self._seeing = seeing

    @classmethod
    def load(cls, path: Path, *, allow_pickle: bool) -> "Depth":
        """Read the folder that a file of weights lies in.

        Raises:
            LoadFailed: it is no folder of such a model.
        """
        from transformers import AutoModelForDepthEstimation  # only where it is needed

        folder = path.parent
        seeing = seeing_of(folder)
        if path.suffix != ".safetensors":
            raise LoadFailed(f"{folder.name}: models of the transformers library are read from safetensors files alone")
        try:
            network = AutoModelForDepthEstimation.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, trust_remote_code=False, torch_dtype=torch.float32
            )
        except Exception as error:  # the library raises whatever comes to it
            raise LoadFailed(f"{folder.name} is no model of depth that can be read ({type(error).__name__})") from error
        return cls(network.eval().requires_grad_(False), seeing)

    def draw(self, pixels: Pixels, asked: Preprocessing) -> Pixels:
        """Return the map."""
        height, width = pixels.shape[:2]
        device = device_of(self.network)
        mean, deviation = (
            torch.tensor(values, device=device)[None, :, None, None]
            for values in (self._seeing.mean, self._seeing.deviation)
        )
        values = tensor_of(pixels, device) / 255
        size = inner_size(width, height, self._seeing)
        with torch.inference_mode():
            values = functional.interpolate(values, size=size, mode="bicubic", align_corners=False).clamp(0, 1)
            found = self.network((values - mean) / deviation).predicted_depth[:, None].float()
            found = functional.interpolate(found, size=(height, width), mode="bicubic", align_corners=False)[0, 0]
        return grey(nearness(found, metres=self._seeing.kind == METRES))


def nearness(found: torch.Tensor, *, metres: bool) -> torch.Tensor:
    """Return [height, width] with 1 = nearest, 0 = farthest; the same everywhere is 0."""
    if metres:
        low, high = (float(np.percentile(found.cpu().numpy(), 100 * share)) for share in (NEAREST, FARTHEST))
        found, low, high = -found, -high, -low
    else:
        low, high = float(found.min()), float(found.max())
    return torch.zeros_like(found) if high <= low else (found - low) / (high - low)


def inner_size(width: int, height: int, seeing: Seeing) -> tuple[int, int]:
    """Return height and width that a model works at: in proportion, the short side as it wants it. Pure."""
    scale = seeing.side / min(width, height)

    def whole(side: int) -> int:
        most = LARGEST_SIDE // seeing.multiple
        return min(max(round(side * scale / seeing.multiple), 1), most) * seeing.multiple

    return whole(height), whole(width)


def seeing_of(folder: Path) -> Seeing:
    """Return how the model in a folder wants to be shown pictures.

    Raises:
        LoadFailed: there is no such model in it.
    """
    kind = _read(folder / CONFIG).get("model_type")
    if kind not in MULTIPLES:
        raise LoadFailed(f"{folder.name} holds no model of depth; known are {', '.join(MULTIPLES)}")
    told = _read(folder / PREPROCESSOR) if (folder / PREPROCESSOR).is_file() else {}
    size = told.get("size")
    side = size.get("height") if isinstance(size, dict) else size
    multiple = MULTIPLES[kind]
    plain = Seeing(kind=kind, side=_side(side) or SIDES[kind], multiple=multiple)
    mean, deviation = _colours(told.get("image_mean")), _colours(told.get("image_std"))
    if mean is None or deviation is None or min(deviation) <= 0:
        return plain
    return Seeing(kind=kind, side=plain.side, multiple=multiple, mean=mean, deviation=deviation)


def _side(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 14 <= value <= LARGEST_SIDE else None


def _colours(value: object) -> tuple[float, ...] | None:
    if not isinstance(value, list) or len(value) != 3 or not all(isinstance(one, int | float) for one in value):
        return None
    return tuple(float(one) for one in value)


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(MOST_JSON))
    except (OSError, ValueError, RecursionError) as error:
        raise LoadFailed(f"{path.parent.name}/{path.name} cannot be read ({type(error).__name__})") from error
    return found if isinstance(found, dict) else {}
