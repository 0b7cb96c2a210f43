from typing import Any

import numpy as np
import pytest
from PIL import Image

from server.core.errors import BadImage, InvalidValue
from server.core.image import Size
from server.core.pixels import FrameRequest, GrowRequest, LayRequest
from server.engines.image.outpainting import rooms
from tests.support.drawn_pixels import formula_picture
from tests.support.picture_files import file_of

PICTURE = Image.fromarray(formula_picture(50, 40))
FILE = file_of(PICTURE)
REACH = Size(64, 64)


def grown(**fields: Any) -> list[Image.Image]:
    return rooms.images_of(GrowRequest(**{"picture": FILE, "side": "left", "pixels": 24, "reach": REACH} | fields))


def white(mask: Image.Image) -> tuple[int, ...] | None:
    """Return the box of what is white."""
    return mask.convert("L").getbbox()


@pytest.mark.parametrize(
    ("side", "at", "canvas"),
    [("left", (24, 0), (64, 64)), ("right", (0, 0), (64, 64)), ("up", (0, 14), (64, 64)), ("down", (0, 0), (64, 64))],
)
def test_the_picture_lies_at_its_side_of_a_canvas_of_whole_cells(
    side: Any, at: tuple[int, int], canvas: tuple[int, int]
) -> None:
    whole, part, mask, for_latents = grown(side=side, pixels=24 if side in ("left", "right") else 14)
    assert whole.size == canvas
    box = (*at, at[0] + 40, at[1] + 50)
    assert np.array_equal(np.asarray(whole.crop(box))[1:-1, 1:-1], np.asarray(PICTURE)[1:-1, 1:-1])
    assert part.size == mask.size == for_latents.size
    assert all(one.mode == "RGB" for one in (whole, part, mask, for_latents))


def test_masks_reach_into_the_picture_by_the_blur_and_twice_that() -> None:
    _, _, mask, for_latents = grown(pixels=24, blur=4)
    assert np.asarray(mask)[10, :, 0].tolist().index(0) == 28
    assert np.asarray(for_latents)[10, :, 0].tolist().index(0) == 32
    assert np.asarray(mask)[60, 40].tolist() == [255, 255, 255], "what lies below the picture is white, too"


def test_the_part_is_no_larger_than_the_reach_and_lies_at_the_room() -> None:
    wide = file_of(Image.fromarray(formula_picture(64, 200)))
    for side, x in (("left", 0), ("right", 256 - 96)):
        whole, part, _, _ = grown(picture=wide, side=side, pixels=56, reach=Size(96, 32))
        assert (whole.size, part.size) == ((256, 64), (96, 64))
        assert np.array_equal(np.asarray(part), np.asarray(whole)[:, x : x + 96])


def test_a_frame() -> None:
    work = FrameRequest(picture=FILE, left=10, right=14, up=0, down=14, blur=3)
    canvas, mask, for_latents = rooms.images_of(work)
    assert canvas.size == (64, 64)
    assert np.array_equal(np.asarray(canvas)[:50, 10:50], np.asarray(PICTURE))
    black = [np.argwhere(np.asarray(one)[:, :, 0] == 0) for one in (mask, for_latents)]
    assert black[0].min(axis=0).tolist() == [0, 16], "twice the blur, where there is room"
    assert black[0].max(axis=0).tolist() == [64 - 14 - 6, 64 - 14 - 6]
    assert black[1].min(axis=0).tolist() == [0, 11]


def test_a_picture_all_of_which_is_blurred_is_all_made_anew() -> None:
    _, mask, _ = rooms.images_of(FrameRequest(picture=FILE, left=8, right=8, blur=40))
    assert white(mask) == (0, 0, *mask.size)
    assert np.asarray(mask).min() == 255


def test_laying_back() -> None:
    work = LayRequest(
        under=FILE, picture=file_of(Image.new("RGB", (8, 8), (9, 8, 7))), left=36, top=4, size=Size(42, 9)
    )
    (found,) = rooms.images_of(work)
    assert found.size == (42, 9)
    assert found.getpixel((37, 5)) == (9, 8, 7)
    assert found.getpixel((3, 3)) == PICTURE.getpixel((3, 3))


@pytest.mark.parametrize(
    "work",
    [
        GrowRequest(picture=FILE, side="left", pixels=-1, reach=REACH),
        GrowRequest(picture=FILE, side="left", pixels=9, reach=Size(0, 9)),
        GrowRequest(picture=FILE, side="left", pixels=9, reach=REACH, blur=-1),
        GrowRequest(picture=FILE, side="left", pixels=9, reach=REACH, detail=float("nan")),
        GrowRequest(picture=FILE, side="left", pixels=9, reach=REACH, colour_variation=2),
        FrameRequest(picture=FILE, up=1 << 20),
        LayRequest(under=FILE, picture=FILE, left=0, top=0, size=Size(0, 0)),
    ],
)
def test_bounds(work: Any) -> None:
    with pytest.raises(InvalidValue):
        rooms.check(work)


def test_what_is_too_large_or_no_picture() -> None:
    large = file_of(Image.new("L", (4096, 2048)))
    with pytest.raises(InvalidValue, match="larger than what is made here"):
        grown(picture=large)
    with pytest.raises(BadImage):
        grown(picture=b"none")
