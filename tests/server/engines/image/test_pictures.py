import io

import numpy as np
import pytest
import torch
from PIL import Image

from server.engines.image.pictures import from_image, png, to_image

pytestmark = pytest.mark.torch


@pytest.mark.parametrize(
    ("value", "level"),
    [(-1.0, 0), (1.0, 255), (-7.0, 0), (7.0, 255), (0.0, 127), (0.999, 254), (2 * 128 / 255 - 1 + 1e-6, 128)],
)
def test_values_are_cut_off_and_not_rounded(value: float, level: int) -> None:
    pixels = np.asarray(to_image(torch.full((3, 2, 4), value)))
    assert pixels.shape == (2, 4, 3)
    assert set(pixels.flatten().tolist()) == {level}


def test_channels_and_axes_keep_their_places() -> None:
    picture = torch.full((3, 2, 4), -1.0)
    picture[2, 1, 3] = 1.0
    pixels = np.asarray(to_image(picture))
    assert pixels[1, 3].tolist() == [0, 0, 255]
    assert pixels.sum() == 255


def test_pixels_to_a_tensor() -> None:
    image = Image.fromarray(np.array([[[0, 51, 255], [255, 0, 0]]], dtype=np.uint8))
    found = from_image(image)
    assert found.shape == (3, 1, 2)
    assert found[:, 0, 0].tolist() == pytest.approx([-1.0, -0.6, 1.0])


def test_png_holds_the_pixels_and_no_text() -> None:
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (5, 7, 3), dtype=np.uint8))
    read = Image.open(io.BytesIO(png(image)))
    assert read.tobytes() == image.tobytes()
    assert read.info == {}
