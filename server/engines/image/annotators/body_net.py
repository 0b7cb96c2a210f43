"""The network that finds bodies (Cao et al. 2017, arXiv 1611.08050; 18 joints) in the layout of `body_pose_model.pth`.

A trunk as in VGG19 up to its tenth convolution, then six stages with two branches each: 38 planes that point along
limbs, 19 that mark joints (the last of them: nothing). Names are those of OpenPose's layers.
"""

import torch
from torch import nn
from torch.nn import functional

LIMB_PLANES, JOINT_PLANES, TRUNK = 38, 19, 128
STAGES = 6
STRIDE = 8

_TRUNK = (
    *(("conv1_1", 3, 64), ("conv1_2", 64, 64), None),
    *(("conv2_1", 64, 128), ("conv2_2", 128, 128), None),
    *(("conv3_1", 128, 256), ("conv3_2", 256, 256), ("conv3_3", 256, 256), ("conv3_4", 256, 256), None),
    *(("conv4_1", 256, 512), ("conv4_2", 512, 512), ("conv4_3_CPM", 512, 256), ("conv4_4_CPM", 256, TRUNK)),
)
"""Name, channels in and out; None halves the picture."""

Layer = tuple[str, int, int, int]


def branch(stage: int, number: int) -> list[Layer]:
    """Return name, channels in and out, and kernel of the layers of a branch (1 = limbs, 2 = joints)."""
    last = LIMB_PLANES if number == 1 else JOINT_PLANES
    if stage == 1:
        names = [f"conv5_{layer}_CPM_L{number}" for layer in range(1, 6)]
        return [*((name, TRUNK, TRUNK, 3) for name in names[:3]), (names[3], TRUNK, 512, 1), (names[4], 512, last, 1)]
    names = [f"Mconv{layer}_stage{stage}_L{number}" for layer in range(1, 8)]
    first = LIMB_PLANES + JOINT_PLANES + TRUNK
    wide = [(name, TRUNK, TRUNK, 7) for name in names[1:5]]
    return [(names[0], first, TRUNK, 7), *wide, (names[5], TRUNK, TRUNK, 1), (names[6], TRUNK, last, 1)]


class BodyNet(nn.Module):
    """Gives limbs [1, 38, h / 8, w / 8] and joints [1, 19, h / 8, w / 8] for [1, 3, h, w], -0.5 ... 0.5, blue first."""

    def __init__(self) -> None:
        super().__init__()
        for part in _TRUNK:
            if part is not None:
                name, inside, outside = part
                self.add_module(name, nn.Conv2d(inside, outside, 3, padding=1))
        for stage in range(1, STAGES + 1):
            for number in (1, 2):
                for name, inside, outside, kernel in branch(stage, number):
                    self.add_module(name, nn.Conv2d(inside, outside, kernel, padding=kernel // 2))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the planes of the last stage."""
        for part in _TRUNK:
            x = functional.max_pool2d(x, 2, 2) if part is None else functional.relu(self.get_submodule(part[0])(x))
        seen = x
        limbs = joints = x
        for stage in range(1, STAGES + 1):
            limbs, joints = self._branch(seen, stage, 1), self._branch(seen, stage, 2)
            seen = torch.cat([limbs, joints, x], dim=1)
        return limbs, joints

    def _branch(self, seen: torch.Tensor, stage: int, number: int) -> torch.Tensor:
        layers = branch(stage, number)
        for name, *_ in layers[:-1]:
            seen = functional.relu(self.get_submodule(name)(seen))
        made: torch.Tensor = self.get_submodule(layers[-1][0])(seen)
        return made
