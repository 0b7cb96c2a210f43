import io

import pytest
import torch
from PIL import Image

from server.engines.image.preview import grid, preview

pytestmark = pytest.mark.torch


def size_of(data: bytes) -> tuple[int, int]:
    return Image.open(io.BytesIO(data)).size


@pytest.mark.parametrize(("batch", "size"), [(1, (48, 32)), (2, (96, 32)), (3, (96, 64)), (9, (144, 96))])
def test_eight_pixels_a_cell_and_a_grid_for_batches(batch: int, size: tuple[int, int]) -> None:
    assert size_of(preview(torch.zeros(batch, 4, 4, 6))) == size


def test_brightness_follows_the_first_channel() -> None:
    latents = torch.zeros(1, 4, 1, 2)
    latents[0, 0] = torch.tensor([[-2.0, 2.0]])
    image = Image.open(io.BytesIO(preview(latents)))
    dark, bright = image.getpixel((0, 0)), image.getpixel((15, 7))
    assert isinstance(dark, tuple)
    assert isinstance(bright, tuple)
    assert sum(dark) < 200 < sum(bright)


def test_numbers_that_are_none_do_no_harm() -> None:
    assert size_of(preview(torch.full((1, 4, 2, 2), float("nan")))) == (16, 16)


def test_pictures_fill_the_grid_row_by_row() -> None:
    images = [Image.new("RGB", (1, 1), (level, 0, 0)) for level in (1, 2, 3)]
    sheet = grid(images)
    assert [sheet.getpixel(place) for place in ((0, 0), (1, 0), (0, 1), (1, 1))] == [
        (1, 0, 0),
        (2, 0, 0),
        (3, 0, 0),
        (0, 0, 0),
    ]
