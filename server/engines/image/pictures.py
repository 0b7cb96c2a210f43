"""Tensors to pixels and PNG bytes, and back. Texts in PNG files are not its business."""

import numpy as np
import torch
from PIL import Image

from server.engines.image.files import written


def to_image(picture: torch.Tensor) -> Image.Image:
    """Return [3, H, W], -1 ... 1, as an RGB image; values are cut off, not rounded, as A1111 does."""
    unit = torch.clamp((picture + 1.0) / 2.0, min=0.0, max=1.0)
    pixels = (255.0 * unit.permute(1, 2, 0).cpu().numpy()).astype(np.uint8)
    return Image.fromarray(pixels)


def from_image(image: Image.Image) -> torch.Tensor:
    """Return an RGB image as [3, H, W] float32, -1 ... 1."""
    unit = np.asarray(image, dtype=np.float32) / 255.0
    return torch.from_numpy(unit).permute(2, 0, 1) * 2.0 - 1.0


def png(image: Image.Image) -> bytes:
    """Return the image as PNG bytes without text chunks."""
    return written(image)
