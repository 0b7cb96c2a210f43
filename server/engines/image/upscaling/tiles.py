"""How a picture is cut into tiles that overlap, and joined again with blended seams. Pure, needs no torch.

Tiles have one size and are spread evenly, so that neighbours mostly share more than the overlap asked for. A seam is a
linear ramp as wide as that overlap, columns first, then rows; it lies in the middle of what neighbours share
(`middle`), where both are farthest from their edges, or at the beginning of the later tile, as A1111's tools have it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

from PIL import Image

from server.core.errors import InvalidValue

Pixels = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where tiles lie: `xs` from the left, `ys` from the top, in pixels; `overlap` is the width of seams."""

    size: Pixels
    tile: Pixels
    overlap: int
    xs: tuple[int, ...]
    ys: tuple[int, ...]

    @property
    def count(self) -> int:
        """Return how many tiles there are."""
        return len(self.xs) * len(self.ys)

    def scaled(self, factor: int) -> "Layout":
        """Return the layout of the enlarged picture."""
        return Layout(
            size=(self.size[0] * factor, self.size[1] * factor),
            tile=(self.tile[0] * factor, self.tile[1] * factor),
            overlap=self.overlap * factor,
            xs=tuple(x * factor for x in self.xs),
            ys=tuple(y * factor for y in self.ys),
        )


def layout(size: Pixels, tile: Pixels, overlap: int, *, shared: int = 0, multiple: int = 1) -> Layout:
    """Return where tiles of a picture lie; a tile is never larger than the picture.

    Neighbours share at least `overlap` pixels, which is the width of seams, or `shared` where that is more. Tiles
    begin at multiples of `multiple`; then the sides of picture and tile have to be such as well.

    Raises:
        InvalidValue: tiles of this size cannot overlap so far.
    """
    fitting = min(tile[0], size[0]), min(tile[1], size[1])
    if overlap < 0 or min(tile) < 1 or overlap >= min(tile):
        raise InvalidValue.of("overlap", f"tiles of {tile[0]}x{tile[1]} pixels cannot overlap by {overlap}")
    xs = _starts(size[0], tile[0], max(overlap, shared), multiple)
    ys = _starts(size[1], tile[1], max(overlap, shared), multiple)
    return Layout(size=size, tile=fitting, overlap=overlap, xs=xs, ys=ys)


def split(image: Image.Image, lay: Layout) -> list[Image.Image]:
    """Return the tiles, row after row."""
    width, height = lay.tile
    return [image.crop((x, y, x + width, y + height)) for y in lay.ys for x in lay.xs]


def joined(tiles: Sequence[Image.Image], lay: Layout, *, middle: bool) -> Image.Image:
    """Return the picture (RGB) that the tiles make, which are of the layout's tile size, row after row."""
    width, height = lay.tile
    whole = Image.new("RGB", lay.size)
    across = _ramp(lay.overlap).resize((max(lay.overlap, 1), height)) if lay.overlap else None
    down = _ramp(lay.overlap).transpose(Image.Transpose.ROTATE_270).resize((lay.size[0], max(lay.overlap, 1)))
    for row, y in enumerate(lay.ys):
        strip = Image.new("RGB", (lay.size[0], height))
        for column, x in enumerate(lay.xs):
            tile = tiles[row * len(lay.xs) + column]
            begin = _seam(lay.xs, column, width, lay.overlap, middle=middle)
            if column and across is not None:
                strip.paste(tile.crop((begin, 0, begin + lay.overlap, height)), (x + begin, 0), across)
            done = begin + lay.overlap if column else 0
            strip.paste(tile.crop((done, 0, width, height)), (x + done, 0))
        begin = _seam(lay.ys, row, height, lay.overlap, middle=middle)
        if row and lay.overlap:
            whole.paste(strip.crop((0, begin, lay.size[0], begin + lay.overlap)), (0, y + begin), down)
        done = begin + lay.overlap if row else 0
        whole.paste(strip.crop((0, done, lay.size[0], height)), (0, y + done))
    return whole


def _starts(side: int, tile: int, overlap: int, multiple: int) -> tuple[int, ...]:
    if side <= tile:
        return (0,)
    count = ceil((side - overlap) / (tile - overlap))
    step = (side - tile) / (count - 1)
    return tuple(min(int(number * step) // multiple * multiple, side - tile) for number in range(count))


def _seam(starts: Sequence[int], number: int, tile: int, overlap: int, *, middle: bool) -> int:
    """Return where the seam with the tile before begins, counted from the beginning of this tile."""
    if number == 0 or not middle:
        return 0
    before, here = list(pairwise(starts))[number - 1]
    return max(before + tile - here - overlap, 0) // 2


def _ramp(overlap: int) -> Image.Image:
    """Return a row of rising weights, [1, overlap] as an image in mode L."""
    row = Image.new("L", (max(overlap, 1), 1))
    row.putdata([round(255 * (k + 0.5) / max(overlap, 1)) for k in range(max(overlap, 1))])
    return row
