"""Scenes drawn with eight blocks across, and the rule that tells such pictures from plain ones.

A block is 2 x 2 latents wide. Smaller ones cannot be seen: the decoder takes stairs of single latents for the edge of
something round or slanted, as it was taught, and smooths them.
"""

import math

import numpy as np
from PIL import Image

from training.image.drawing import DARK, SIDE
from training.image.icons import SIDES, icon
from training.image.scenes import BACKGROUNDS, NIGHT, PALETTE, PLACES, ROW_SIZES, ROWS, SIZES, Colour, Scene, Thing

ACROSS = 8
BLOCK = SIDE // ACROSS
"""Side of a block in pixels."""

SOFT = 4
"""Pixels beside the border of a block that the decoder may blur."""

FLAT = 90
"""Largest difference, summed over red, green and blue, inside a block that counts as flat."""

Rows = list[list[Colour | None]]


def render_blocks(scene: Scene) -> Image.Image:
    """Draw a scene in blocks. A night has no stars, which are smaller than a block."""
    paper = NIGHT if scene.style == "night" else BACKGROUNDS[scene.background]
    small = Image.new("RGB", (ACROSS, ACROSS), paper)
    for thing in scene.things:
        for left, top, blocks in _squares(thing, is_pair=len(scene.things) > 1):
            rows = icon(thing.kind, blocks, PALETTE[thing.colour])
            if scene.style == "sketch":
                rows = _outline(rows)
            for down, row in enumerate(rows):
                for across, colour in enumerate(row):
                    if colour is not None:
                        small.putpixel((left + across, top + down), colour)
    return small.resize((SIDE, SIDE), Image.Resampling.NEAREST)


def flatness(image: Image.Image) -> float:
    """Return which part of the blocks that a thing touches are of one colour, 0 ... 1; 0 where there is no thing."""
    picture = np.asarray(image.convert("RGB"), dtype=np.int16)
    paper = np.median(np.concatenate([picture[:2].reshape(-1, 3), picture[-2:].reshape(-1, 3)]), axis=0)
    blocks = picture.reshape(ACROSS, BLOCK, ACROSS, BLOCK, 3).transpose(0, 2, 1, 3, 4)
    inner = blocks[:, :, SOFT:-SOFT, SOFT:-SOFT].reshape(ACROSS * ACROSS, -1, 3)
    touched = [block for block in inner if (np.abs(block - paper).sum(axis=1) > FLAT).any()]
    flat = [block for block in touched if (block.max(axis=0) - block.min(axis=0)).sum() <= FLAT]
    return len(flat) / len(touched) if touched else 0.0


def _squares(thing: Thing, *, is_pair: bool) -> list[tuple[int, int, int]]:
    """Return left, top and side of the square around each of some things, in blocks."""
    part = ROW_SIZES[2] if is_pair else ROW_SIZES.get(thing.count, SIZES[thing.size])
    blocks = min(SIDES, key=lambda side: abs(side - part * ACROSS))
    return [(_start(x, blocks), _start(y, blocks), blocks) for x, y in ROWS.get(thing.count, (PLACES[thing.place],))]


def _start(middle: float, blocks: int) -> int:
    """Return where a thing begins; what does not stand in the middle moves away from it to the next border."""
    start = middle * ACROSS - blocks / 2
    whole = math.floor(start) if middle <= 0.5 else math.ceil(start)
    return min(max(whole, 0), ACROSS - blocks)


def _outline(rows: Rows) -> Rows:
    """Return only the blocks that have paper or the border beside them, dark."""
    side = len(rows)

    def is_paper(down: int, across: int) -> bool:
        return not (0 <= down < side and 0 <= across < side) or rows[down][across] is None

    found: Rows = [[None] * side for _ in rows]
    for down in range(side):
        for across in range(side):
            beside = ((down - 1, across), (down + 1, across), (down, across - 1), (down, across + 1))
            if not is_paper(down, across) and any(is_paper(*place) for place in beside):
                found[down][across] = DARK
    return found
