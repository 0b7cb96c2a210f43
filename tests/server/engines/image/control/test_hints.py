import numpy as np
import torch
from PIL import Image

from server.core.image import ControlUnit, ImageRequest, Preprocessing, Seeds, Size
from server.core.prompt import plain
from server.engines.image.control.hints import hint_of, region_of
from tests.support.picture_files import file_of, noise_image

PICTURE = noise_image(60, 40)


def request(width: int = 120, height: int = 80) -> ImageRequest:
    words = plain("a cat")
    return ImageRequest(model="m", prompt=words, negative=words, size=Size(width, height), seeds=Seeds(first=1))


def unit(**fields: object) -> ControlUnit:
    return ControlUnit(**{"name": "c", "path": "/c", "image": file_of(PICTURE)} | fields)  # type: ignore[arg-type]


def test_values_are_shares_and_sizes_are_those_of_passes() -> None:
    hint = hint_of(unit(), request())
    values = hint.tensor(Size(60, 40))
    assert torch.equal(values[0], torch.from_numpy(np.asarray(PICTURE, dtype=np.float32) / 255).permute(2, 0, 1))
    assert hint.tensor(Size(128, 64)).shape == (1, 3, 64, 128)
    assert hint.at(Size(128, 64)) is hint.at(Size(128, 64))


def test_what_inpainting_leaves_open_is_minus_one() -> None:
    mask = Image.new("L", (60, 40))
    mask.paste(255, (0, 0, 30, 40))
    hint = hint_of(unit(mask=file_of(mask), preprocessing=Preprocessing(module="inpaint")), request())
    values = hint.tensor(Size(60, 40))
    assert hint.is_inpainting
    assert values.shape == (1, 3, 40, 60)
    assert (values[..., :30] == -1).all()
    assert (values[..., 30:] >= 0).all()


def test_a_perfect_resolution_is_that_of_the_first_pass() -> None:
    module = Preprocessing(module="threshold", resolution=512, threshold_a=100)
    assert hint_of(unit(pixel_perfect=True, preprocessing=module), request(125, 83)).map.shape == (80, 120, 3)
    assert hint_of(unit(preprocessing=module), request()).map.shape == (512, 768, 3)
    assert hint_of(unit(pixel_perfect=True, fit="fill", preprocessing=module), request(60, 400)).map.shape[0] == 37


def test_regions() -> None:
    assert region_of(unit(), Size(8, 8)) is None
    mask = Image.new("L", (2, 2), 255)
    mask.putpixel((0, 0), 0)
    region = region_of(unit(region=file_of(mask)), Size(8, 8))
    assert region is not None
    assert region.shape == (1, 1, 8, 8)
    assert (region[0, 0, 0, 0], region[0, 0, 7, 7]) == (0, 1)
