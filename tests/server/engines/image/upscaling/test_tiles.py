import pytest
from PIL import Image, ImageChops

from server.core.errors import InvalidValue
from server.engines.image.upscaling.tiles import joined, layout, split


def picture(width: int, height: int) -> Image.Image:
    bands = [Image.linear_gradient("L"), Image.radial_gradient("L"), Image.linear_gradient("L").rotate(90)]
    return Image.merge("RGB", bands).resize((width, height))


def most_different(one: Image.Image, other: Image.Image) -> int:
    return max(high for _, high in ImageChops.difference(one, other).getextrema())


@pytest.mark.parametrize("middle", [True, False])
@pytest.mark.parametrize(
    ("size", "tile", "overlap", "columns", "rows"),
    [
        ((512, 512), (192, 192), 8, 3, 3),
        ((200, 100), (64, 64), 16, 4, 2),
        ((65, 64), (64, 64), 8, 2, 1),
        ((30, 20), (64, 64), 8, 1, 1),
        ((300, 50), (100, 40), 0, 3, 2),
    ],
)
def test_what_is_cut_is_joined_again(
    size: tuple[int, int], tile: tuple[int, int], overlap: int, columns: int, rows: int, middle: bool
) -> None:
    lay = layout(size, tile, overlap)
    assert (len(lay.xs), len(lay.ys)) == (columns, rows)
    image = picture(*size)
    tiles = split(image, lay)
    assert {one.size for one in tiles} == {lay.tile}
    assert most_different(joined(tiles, lay, middle=middle), image) <= 1


def test_tiles_are_spread_evenly_to_the_edges() -> None:
    assert layout((512, 100), (192, 192), 8).xs == (0, 160, 320)
    assert layout((512, 100), (192, 192), 8).tile == (192, 100)


@pytest.mark.parametrize("middle", [True, False])
def test_a_seam_is_a_ramp(middle: bool) -> None:
    lay = layout((100, 10), (60, 10), 8)
    left, right = Image.new("RGB", (60, 10)), Image.new("RGB", (60, 10), (255, 255, 255))
    row = [joined([left, right], lay, middle=middle).getpixel((x, 5))[0] for x in range(100)]  # type: ignore[index]
    assert row == sorted(row)
    grey = [x for x, value in enumerate(row) if 0 < value < 255]
    assert len(grey) == 8
    # what both tiles share is 40 ... 59
    assert grey[0] == (46 if middle else 40)


def test_tiles_may_begin_at_multiples_only() -> None:
    lay = layout((152, 64), (64, 64), 16, multiple=8)
    assert lay.xs == (0, 40, 88)
    assert layout((152, 64), (64, 64), 16).xs == (0, 44, 88)


def test_an_enlarged_layout() -> None:
    lay = layout((100, 80), (64, 64), 8)
    big = lay.scaled(3)
    assert big == layout((300, 240), (192, 192), 24)


@pytest.mark.parametrize(("tile", "overlap"), [((64, 64), 64), ((64, 8), 8), ((0, 64), 0), ((64, 64), -1)])
def test_overlaps_that_cannot_be(tile: tuple[int, int], overlap: int) -> None:
    with pytest.raises(InvalidValue):
        layout((100, 100), tile, overlap)
