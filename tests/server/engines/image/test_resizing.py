import numpy as np
import pytest
from PIL import Image

from server.core.errors import BadImage
from server.core.image import ResizeMode, Size
from server.engines.image.resizing import Place, put_back, resized
from tests.support.picture_files import noise_image

pytestmark = pytest.mark.torch


def bands(width: int, height: int) -> Image.Image:
    """Left to right ever brighter, so that it shows what was cut or drawn out."""
    row = np.linspace(0, 255, width).astype(np.uint8)
    return Image.fromarray(np.stack([np.tile(row, (height, 1))] * 3, axis=-1))


@pytest.mark.parametrize("mode", ["stretch", "crop", "fill", "latent"])
@pytest.mark.parametrize("size", [(64, 64), (96, 64), (64, 100), (33, 65), (8, 40)])
def test_the_size_is_what_was_asked_for(mode: ResizeMode, size: tuple[int, int]) -> None:
    assert resized(noise_image(50, 30), Size(*size), mode).size == size


def test_the_same_size_changes_nothing() -> None:
    image = noise_image(20, 30)
    for mode in ("stretch", "crop", "fill"):
        assert resized(image, Size(20, 30), mode).tobytes() == image.tobytes()


def test_stretching_is_lanczos() -> None:
    image = noise_image(20, 30)
    assert (
        resized(image, Size(40, 31), "stretch").tobytes() == image.resize((40, 31), Image.Resampling.LANCZOS).tobytes()
    )


def test_cropping_keeps_the_middle() -> None:
    # A wide picture to a square one: as high as the square, cut at both sides.
    image = bands(90, 30)
    whole = image.resize((30 * 90 // 30, 30), Image.Resampling.LANCZOS)
    assert resized(image, Size(30, 30), "crop").tobytes() == whole.crop((30, 0, 60, 30)).tobytes()


def test_filling_draws_out_the_outermost_columns() -> None:
    made = np.asarray(resized(bands(30, 30), Size(90, 30), "fill"))
    assert (made[:, :30] == made[:, :1]).all()
    assert (made[:, 60:] == made[:, 60:61]).all()
    assert made[0, 0, 0] < made[0, 35, 0] < made[0, 55, 0] < made[0, -1, 0]


def test_filling_draws_out_the_outermost_rows() -> None:
    turned = bands(30, 30).transpose(Image.Transpose.ROTATE_90)
    made = np.asarray(resized(turned, Size(30, 91), "fill"))
    assert (made[:30] == made[:1]).all()
    # What is left of an odd number stays black, as there.
    assert (made[30 + 30 : 30 + 30 + 30] == made[60:61]).all()
    assert (made[90] == 0).all()


def test_masks_stay_masks_when_stretched() -> None:
    mask = Image.new("L", (10, 10), 255)
    assert resized(mask, Size(20, 20), "stretch").mode == "L"
    assert resized(mask, Size(20, 10), "fill").mode == "RGB"


def test_an_upscaler_only_enlarges() -> None:
    image = noise_image(16, 16)
    plain = resized(image, Size(8, 8), "stretch")
    assert resized(image, Size(8, 8), "stretch", "nearest").tobytes() == plain.tobytes()
    enlarged = np.asarray(resized(image, Size(32, 32), "stretch", "nearest"))
    assert (enlarged == np.asarray(image).repeat(2, 0).repeat(2, 1)).all()
    mask = Image.new("L", (4, 4), 9)
    assert resized(mask, Size(16, 16), "stretch", "nearest").mode == "L"


def test_a_thread_of_a_picture_is_refused() -> None:
    with pytest.raises(BadImage, match="5000x1"):
        resized(Image.new("RGB", (5000, 1)), Size(64, 64), "fill")


def test_a_picture_is_put_back_where_it_was() -> None:
    made = put_back(Image.new("RGB", (10, 10), "red"), (30, 20), Place(5, 6, 12, 8))
    assert (made.mode, made.size) == ("RGBA", (30, 20))
    assert made.getbbox() == (5, 6, 17, 14)
    assert made.getpixel((6, 7)) == (255, 0, 0, 255)
