"""Sizes that do not halve evenly: growing twofold first, then fitting to the skip connection.

The original UNet doubles and convolves, and only then resizes to the skip tensor by nearest neighbour; diffusers
resizes before the convolution, which gives other numbers.
"""

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.models.upsampling import Upsample2D
from torch.nn import functional


class SkipMatchingUpsample(Upsample2D):
    """Doubles height and width, then matches `output_size` when one is given."""

    def forward(self, hidden_states: torch.Tensor, output_size: tuple[int, int] | None = None) -> torch.Tensor:
        """Return `hidden_states` [batch, channels, h, w] at twice its size, or at `output_size`."""
        grown: torch.Tensor = super().forward(hidden_states)
        if output_size is None or grown.shape[-2:] == tuple(output_size):
            return grown
        return functional.interpolate(grown, size=tuple(output_size), mode="nearest")


def match_sizes(unet: UNet2DConditionModel) -> None:
    """Give every upsampler of the UNet that behaviour, in place."""
    for module in unet.modules():
        if type(module) is Upsample2D:
            module.__class__ = SkipMatchingUpsample
