"""Image encoders: a CLIP that sees, from a single file in the names of the transformers library.

| encoder | width | layers | projection | for |
|---|---|---|---|---|
| ViT-H/14 (LAION) | 1280 | 32 | 1024 | IP-Adapters of SD1.5, those of SDXL with `vit-h` in their name |
| ViT-bigG/14 (LAION) | 1664 | 48 | 1280 | `ip-adapter_sdxl` |
| ViT-L/14 (OpenAI) | 1024 | 24 | 768 | |

Sizes are read from shapes. Two things are not: the number of heads (16 in all of these, 12 in narrower ones), and the
activation, which is `quick_gelu` in OpenAI's models and `gelu` in LAION's, which are wider.
"""

from dataclasses import dataclass
from math import isqrt

import numpy as np
import torch
from PIL import Image
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from server.core.errors import LoadFailed
from server.engines.image.building import fill
from server.engines.image.layouts.shapes import Shapes, count, need
from server.engines.image.tensor_files import Tensors

PREFIX = "vision_model."
PATCHES = "vision_model.embeddings.patch_embedding.weight"
PLACES = "vision_model.embeddings.position_embedding.weight"
PROJECTION = "visual_projection.weight"

NARROW, NARROW_HEADS, HEADS = 768, 12, 16
OPEN_AI_WIDTH = 1024

MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)
"""Of the pictures that CLIP was trained on, red, green, blue."""


@dataclass(frozen=True)
class VisionLayout:
    """Architecture of an image encoder; `side` is that of its pictures in pixels."""

    width: int
    inner_width: int
    layers: int
    projection: int
    patch: int
    side: int

    @property
    def heads(self) -> int:
        """How many heads its attentions have."""
        wanted = NARROW_HEADS if self.width <= NARROW else HEADS
        return wanted if self.width % wanted == 0 else 1


@dataclass(frozen=True)
class Sight:
    """What an encoder says of a picture: `pooled` [1, projection], `tokens` of its last layer but one [1, n, width]."""

    pooled: torch.Tensor
    tokens: torch.Tensor


def read(shapes: Shapes) -> VisionLayout:
    """Infer the architecture; raise LoadFailed when the tensors are no image encoder's."""
    width, _, patch, _ = need(shapes, PATCHES, 4)
    places, _ = need(shapes, PLACES, 2)
    across = isqrt(places - 1)
    if across * across != places - 1:
        raise LoadFailed(f"an image encoder of {places - 1} patches is of an unknown kind")
    return VisionLayout(
        width=width,
        inner_width=need(shapes, "vision_model.encoder.layers.0.mlp.fc1.weight", 2)[0],
        layers=count(shapes, "vision_model.encoder.layers.{}."),
        projection=need(shapes, PROJECTION, 2)[0],
        patch=patch,
        side=patch * across,
    )


def build(tensors: Tensors, dtype: torch.dtype) -> CLIPVisionModelWithProjection:
    """Return the encoder of a file, on the CPU in `dtype`; raise LoadFailed."""
    layout = read(tensors.shapes)
    config = CLIPVisionConfig(
        hidden_size=layout.width,
        intermediate_size=layout.inner_width,
        num_hidden_layers=layout.layers,
        num_attention_heads=layout.heads,
        image_size=layout.side,
        patch_size=layout.patch,
        projection_dim=layout.projection,
        hidden_act="quick_gelu" if layout.width <= OPEN_AI_WIDTH else "gelu",
    )
    with torch.device("meta"):
        model = CLIPVisionModelWithProjection(config)
    wanted = (name for name in tensors.shapes if name.startswith((PREFIX, PROJECTION)) and "position_ids" not in name)
    fill(model, "image encoder", ((name, tensors.get(name).to(dtype)) for name in wanted))
    numbers = torch.arange(tensors.shapes[PLACES][0]).expand((1, -1))
    model.get_submodule("vision_model.embeddings").register_buffer("position_ids", numbers, persistent=False)
    return model


def seen(model: CLIPVisionModelWithProjection, picture: torch.Tensor) -> Sight:
    """Return what an encoder says of a picture [1, 3, side, side]; both are on one device."""
    with torch.no_grad():
        found = model(picture, output_hidden_states=True)
    assert found.hidden_states is not None
    return Sight(found.image_embeds, found.hidden_states[-2])


def prepared(image: Image.Image, side: int) -> torch.Tensor:
    """Return an RGB image as encoders want it, [1, 3, side, side]: its short side brought to `side`, the middle."""
    short = min(image.size)
    size = side * image.width // short, side * image.height // short
    scaled = image if image.size == size else image.resize(size, Image.Resampling.BICUBIC)
    left, top = (scaled.width - side) // 2, (scaled.height - side) // 2
    pixels = np.asarray(scaled.crop((left, top, left + side, top + side)), dtype=np.float32) / 255
    levels = (pixels - np.array(MEAN, dtype=np.float32)) / np.array(DEVIATION, dtype=np.float32)
    return torch.from_numpy(levels).permute(2, 0, 1)[None].contiguous()
