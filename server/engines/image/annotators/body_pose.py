"""People found in a picture and drawn as sticks."""

import json
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from server.core.errors import Broken
from server.core.image import Preprocessing
from server.engines.image.annotators.base import device_of, filled, tensor_of, tensors_of
from server.engines.image.annotators.body_net import STRIDE, BodyNet
from server.engines.image.annotators.people import JOINTS, Person, people_of
from server.engines.image.preprocess import pose
from server.engines.image.preprocess.resampling import Pixels

BOX, SHARE = 368, 0.5
"""The height that the network was trained on, and how much of it a whole picture gets."""

FILLER = 128.0
LONGEST = 4 * BOX


class BodyPose:
    """Draws bodies; hands and faces would need networks of their own."""

    def __init__(self, network: BodyNet) -> None:
        self.network: nn.Module = network

    @classmethod
    def load(cls, path: Path, *, allow_pickle: bool) -> "BodyPose":
        """Read a file; raise LoadFailed when it does not hold this network."""
        state = tensors_of(path, allow_pickle=allow_pickle)
        network = BodyNet()
        filled(network, state, path.name)
        return cls(network)

    def draw(self, pixels: Pixels, asked: Preprocessing) -> Pixels:
        """Return the map."""
        return np.asarray(pose.drawn(pose_json(people_of(*self._planes(pixels)), pixels.shape[1], pixels.shape[0])))

    def _planes(self, pixels: Pixels) -> tuple[np.ndarray, np.ndarray]:
        """Return the planes of limbs and joints at the picture's size."""
        height, width = pixels.shape[:2]
        scale = min(SHARE * BOX / height, LONGEST / width)
        small = max(round(height * scale), 1), max(round(width * scale), 1)
        with torch.inference_mode():
            values = tensor_of(pixels, device_of(self.network)).flip(1)
            values = functional.interpolate(values, size=small, mode="bicubic", align_corners=False).clamp(0, 255)
            values = functional.pad(values, (0, -small[1] % STRIDE, 0, -small[0] % STRIDE), value=FILLER) / 256 - 0.5
            planes = [self._enlarged(one, small, (height, width)) for one in self.network(values)]
        return planes[0], planes[1]

    def _enlarged(self, planes: torch.Tensor, small: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
        if not bool(torch.isfinite(planes).all()):
            raise Broken("the network that finds bodies made values that are no numbers")
        planes = functional.interpolate(planes, scale_factor=STRIDE, mode="bicubic", align_corners=False)
        planes = planes[:, :, : small[0], : small[1]]
        return functional.interpolate(planes, size=size, mode="bicubic", align_corners=False)[0].float().cpu().numpy()


def pose_json(people: list[Person], width: int, height: int) -> bytes:
    """Return people in OpenPose's format, their joints as shares of the picture."""

    def numbers(person: Person) -> list[float]:
        peaks = [person.joints.get(joint) for joint in range(JOINTS)]
        threes = [(0.0, 0.0, 0.0) if one is None else (one.x / width, one.y / height, 1.0) for one in peaks]
        return [value for three in threes for value in three]

    found = [{"pose_keypoints_2d": numbers(person)} for person in people[: pose.MOST_PEOPLE]]
    return json.dumps({"people": found, "canvas_width": width, "canvas_height": height}).encode()
