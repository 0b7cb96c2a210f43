import re

import pytest
from PIL import Image

from server.core.errors import BadImage
from server.engines import input_pictures
from server.engines.input_pictures import FORMATS, decoded, flattened, opened
from tests.support.picture_files import file_of, noise_image, png_of_size

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("kind", FORMATS)
def test_known_formats_are_read(kind: str) -> None:
    assert decoded(file_of(noise_image(9, 7), kind), "x").size == (9, 7)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"a text, no picture",
        b"\x89PNG\r\n\x1a\n",
        file_of(noise_image(40, 40))[:900],
        file_of(noise_image(8, 8), "TIFF"),
        file_of(noise_image(8, 8), "PPM"),
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"GIF89a" + bytes(40),
        b"RIFF\x10\0\0\0WEBPVP8 ",
        png_of_size(40, 40),
    ],
)
def test_what_is_no_picture_is_refused_in_fixed_words(data: bytes) -> None:
    with pytest.raises(BadImage) as caught:
        decoded(data, "mask")
    assert (caught.value.fact("param"), caught.value.fact("reason")) == ("mask", "unreadable")
    assert not re.search(r"0x|/|Error", caught.value.message)


@pytest.mark.parametrize("size", [(30_000, 30_000), (10_000, 8_000), (2**31 - 1, 2**31 - 1)])
def test_sizes_are_refused_by_the_header(size: tuple[int, int]) -> None:
    with pytest.raises(BadImage) as caught:
        decoded(png_of_size(*size), "init_images")
    assert caught.value.fact("reason") in ("too_large", "unreadable")
    if size[0] < 2**31 - 1:
        assert caught.value.fact("reason") == "too_large"


def test_pictures_may_be_too_many_pixels_together(monkeypatch: pytest.MonkeyPatch) -> None:
    files = (file_of(noise_image(10, 10)),) * 3
    assert len(opened(files, "x")) == 3
    monkeypatch.setattr(input_pictures, "MOST_PIXELS_TOGETHER", 250)
    with pytest.raises(BadImage, match="together"):
        opened(files, "x")


def test_pictures_are_turned_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    assert decoded(file_of(noise_image(9, 7), "JPEG", exif=exif), "x").size == (7, 9)


def test_only_the_first_frame_counts() -> None:
    red, blue = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")
    made = decoded(file_of(red, "GIF", save_all=True, append_images=[blue]), "x")
    assert made.convert("RGB").getpixel((0, 0)) == (255, 0, 0)


def test_transparency_of_palettes_becomes_alpha() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putdata([0, 1])
    made = decoded(file_of(image, transparency=b"\x40\xff"), "x")
    assert made.mode == "RGBA"
    assert made.getpixel((0, 0))[3] == 0x40
    assert made.getpixel((1, 0)) == (0, 0, 255, 255)


def test_transparent_pixels_get_the_background() -> None:
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 255, 255))
    assert [flattened(image, (1, 2, 3)).getpixel((x, 0)) for x in (0, 1)] == [(1, 2, 3), (0, 0, 255)]


def test_other_kinds_of_transparency_are_dropped_as_there() -> None:
    assert flattened(Image.new("LA", (1, 1), (9, 0)), (255, 255, 255)).getpixel((0, 0)) == (9, 9, 9)
