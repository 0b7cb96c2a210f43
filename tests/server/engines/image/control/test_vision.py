import numpy as np
import pytest
import torch
from PIL import Image

from server.core.errors import LoadFailed
from server.engines.image.control.vision import DEVIATION, MEAN, prepared, read
from tests.support import tiny_ip_adapter as tiny
from tests.support.picture_files import noise_image

pytestmark = pytest.mark.torch

SHAPES = {name: tuple(tensor.shape) for name, tensor in tiny.encoder_tensors().items()}


def test_sizes_are_read_from_shapes() -> None:
    layout = read(SHAPES)
    assert (layout.width, layout.layers, layout.projection) == (tiny.WIDTH, 3, tiny.PROJECTION)
    assert (layout.patch, layout.side, layout.heads) == (tiny.PATCH, tiny.SIDE, 12)


@pytest.mark.parametrize(("width", "heads"), [(768, 12), (1024, 16), (1280, 16), (1664, 16)])
def test_heads_of_the_published_encoders(width: int, heads: int) -> None:
    patch, places = (
        "vision_model.embeddings.patch_embedding.weight",
        "vision_model.embeddings.position_embedding.weight",
    )
    shapes = SHAPES | {patch: (width, 3, 14, 14), places: (257, width)}
    assert (read(shapes).heads, read(shapes).side) == (heads, 224)


@pytest.mark.parametrize("lost", ["visual_projection.weight", "vision_model.embeddings.position_embedding.weight"])
def test_what_is_no_encoder(lost: str) -> None:
    with pytest.raises(LoadFailed):
        read({name: shape for name, shape in SHAPES.items() if name != lost})
    with pytest.raises(LoadFailed, match="patches"):
        read(SHAPES | {"vision_model.embeddings.position_embedding.weight": (16, tiny.WIDTH)})


def test_a_picture_is_scaled_by_its_short_side_and_its_middle_is_seen() -> None:
    image = noise_image(90, 40)
    found = prepared(image, 32)
    scaled = image.resize((72, 32), Image.Resampling.BICUBIC).crop((20, 0, 52, 32))
    expected = (np.asarray(scaled, dtype=np.float32) / 255 - MEAN) / DEVIATION
    assert found.shape == (1, 3, 32, 32)
    assert torch.allclose(found[0].permute(1, 2, 0), torch.from_numpy(expected.astype(np.float32)), atol=1e-6)


def test_levels_are_those_of_transformers_own_preparation() -> None:
    from transformers import CLIPImageProcessor

    image = noise_image(224, 224)
    theirs = CLIPImageProcessor()(image, return_tensors="pt").pixel_values
    assert torch.allclose(prepared(image, 224), theirs, atol=1e-5)
