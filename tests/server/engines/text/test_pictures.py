"""Names and places of pictures, and how their files are read."""

import numpy as np
import pytest
from PIL import Image

from server.core.errors import BadImage
from server.engines.text.pictures import (
    Picture,
    PictureRun,
    clipped,
    digest_of,
    place_ids,
    position_after,
    read_pixels,
)
from tests.support.picture_files import file_of, noise_image, png_of_size

DIGEST = digest_of(b"a picture")


def run(start: int, size: int, advance: int | None = None) -> PictureRun:
    return PictureRun(
        start=start,
        size=size,
        advance=size if advance is None else advance,
        places=np.zeros((1, size), np.int32),
        whole=False,
        picture=Picture(b"", DIGEST, 1, 1),
        piece=0,
    )


def test_ids_are_negative_and_follow_from_the_content() -> None:
    ids = place_ids(DIGEST, 0, 500)
    assert ids.dtype == np.int32 and (ids < 0).all()
    assert (ids == place_ids(DIGEST, 0, 500)).all()
    assert (ids[:20] == place_ids(DIGEST, 0, 20)).all()
    others = (place_ids(digest_of(b"another"), 0, 500), place_ids(DIGEST, 1, 500))
    assert all((ids != other).mean() > 0.99 for other in others)
    assert len(set(ids.tolist())) > 490


def test_a_part_of_a_picture_is_of_no_use() -> None:
    runs = (run(3, 4), run(7, 2), run(20, 5))
    expected = {0: 0, 3: 3, 4: 3, 6: 3, 7: 7, 8: 7, 9: 9, 15: 15, 20: 20, 24: 20, 25: 25, 30: 30}
    assert {length: clipped(runs, length) for length in expected} == expected
    assert clipped((), 5) == 5


def test_positions_behind_pictures() -> None:
    runs = (run(3, 6, advance=2), run(12, 4, advance=4))
    expected = {0: 0, 3: 3, 9: 5, 12: 8, 16: 12, 20: 16}
    assert {length: position_after(runs, length) for length in expected} == expected


def test_pixels() -> None:
    image = noise_image(5, 3, seed=4)
    pixels = read_pixels(file_of(image), "p")
    assert pixels.shape == (3, 5, 3) and pixels.flags.c_contiguous
    assert (pixels == np.asarray(image)).all()


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1", "I;16", "CMYK"])
def test_every_mode_becomes_colours(mode: str) -> None:
    kind = "JPEG" if mode == "CMYK" else "PNG"
    image = Image.new(mode if mode != "P" else "RGB", (4, 4))
    data = file_of(image.quantize(4) if mode == "P" else image, kind)
    assert read_pixels(data, "p").shape == (4, 4, 3)


def test_what_is_transparent_is_white() -> None:
    clear = Image.new("RGBA", (2, 2), (255, 0, 0, 0))
    assert (read_pixels(file_of(clear), "p") == 255).all()
    grey = Image.new("LA", (2, 2), (0, 0))
    assert (read_pixels(file_of(grey), "p") == 255).all()
    palette = Image.new("P", (2, 2), 0)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    assert (read_pixels(file_of(palette, transparency=0), "p") == 255).all()


@pytest.mark.parametrize("data", [b"", b"text", png_of_size(30000, 30000), file_of(noise_image(64, 64))[:900]])
def test_bad_files_name_their_field(data: bytes) -> None:
    with pytest.raises(BadImage) as refused:
        read_pixels(data, "messages[1].content[0].image_url")
    assert refused.value.fact("param") == "messages[1].content[0].image_url"
