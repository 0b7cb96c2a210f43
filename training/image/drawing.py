"""Scenes to pictures [128, 128, 3]: drawn three times as large and reduced, so edges are smooth.

Every kind of thing is a function that draws into the square around it; a few pixels of place and size are left to the
dice, so the model learns things and not one picture of each.
"""

import math
import random
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw

from training.image.scenes import BACKGROUNDS, NIGHT, PALETTE, PLACES, ROW_SIZES, ROWS, SIZES, Colour, Scene

SIDE = 128
FINE = 3
"""How much larger pictures are drawn."""

LINE = 4
"""Width of a sketched line in pixels."""

DARK: Colour = (25, 25, 25)
Points = Sequence[tuple[float, float]]


class Pen:
    """Draws in the square [0, 1] x [0, 1] around one thing; `is_sketch` leaves outlines only."""

    def __init__(self, draw: ImageDraw.ImageDraw, left: float, top: float, side: float, is_sketch: bool) -> None:
        self._draw = draw
        self._left, self._top, self._side = left, top, side
        self._is_sketch = is_sketch

    def polygon(self, points: Points, colour: Colour) -> None:
        """Fill a polygon."""
        placed = [(self._left + x * self._side, self._top + y * self._side) for x, y in points]
        if self._is_sketch:
            self._draw.line([*placed, placed[0], placed[1]], fill=DARK, width=LINE * FINE, joint="curve")
        else:
            self._draw.polygon(placed, fill=colour)

    def ellipse(self, x: float, y: float, across: float, down: float, colour: Colour) -> None:
        """Fill an ellipse around (x, y) with these half axes."""
        box = (x - across, y - down, x + across, y + down)
        left, top = self._left, self._top
        placed = [(left if at % 2 == 0 else top) + value * self._side for at, value in enumerate(box)]
        if self._is_sketch:
            self._draw.ellipse(placed, outline=DARK, width=LINE * FINE)
        else:
            self._draw.ellipse(placed, fill=colour)

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        """Fill a rectangle."""
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], colour)


def render(scene: Scene, dice: random.Random) -> Image.Image:
    """Draw a scene."""
    paper = NIGHT if scene.style == "night" else BACKGROUNDS[scene.background]
    image = Image.new("RGB", (SIDE * FINE, SIDE * FINE), paper)
    draw = ImageDraw.Draw(image)
    if scene.style == "night":
        _sky(draw, dice)
    for thing in scene.things:
        is_pair = len(scene.things) > 1
        places = ROWS.get(thing.count, (PLACES[thing.place],))
        part = ROW_SIZES[2] if is_pair else ROW_SIZES.get(thing.count, SIZES[thing.size])
        for x, y in places:
            side = part * dice.uniform(0.93, 1.07)
            left = x + dice.uniform(-0.025, 0.025) - side / 2
            top = y + dice.uniform(-0.025, 0.025) - side / 2
            whole = SIDE * FINE
            pen = Pen(draw, left * whole, top * whole, side * whole, scene.style == "sketch")
            DRAWN[thing.kind](pen, PALETTE[thing.colour])
    return image.reduce(FINE)


def pixels(image: Image.Image) -> np.ndarray:
    """Return a picture as float32 [3, height, width], -1 ... 1."""
    return np.asarray(image, dtype=np.float32).transpose(2, 0, 1) / 127.5 - 1


def _sky(draw: ImageDraw.ImageDraw, dice: random.Random) -> None:
    for _ in range(9):
        x, y = (dice.uniform(0.04, 0.96) * SIDE * FINE for _ in range(2))
        size = dice.uniform(1.2, 1.9) * FINE
        draw.ellipse([x - size, y - size, x + size, y + size], fill=PALETTE["white"])


def _circle(pen: Pen, colour: Colour) -> None:
    pen.ellipse(0.5, 0.5, 0.5, 0.5, colour)


def _square(pen: Pen, colour: Colour) -> None:
    pen.box(0.04, 0.04, 0.96, 0.96, colour)


def _triangle(pen: Pen, colour: Colour) -> None:
    pen.polygon([(0.5, 0.02), (1.0, 0.95), (0.0, 0.95)], colour)


def _star(pen: Pen, colour: Colour) -> None:
    pen.polygon(_spiked(5, 0.55, 0.23, (0.5, 0.53)), colour)


def _heart(pen: Pen, colour: Colour) -> None:
    curve = []
    for step in range(48):
        t = 2 * math.pi * step / 48
        x = 16 * math.sin(t) ** 3
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        curve.append((0.5 + x / 33, 0.45 - y / 32))
    pen.polygon(curve, colour)


def _sun(pen: Pen, colour: Colour) -> None:
    pen.polygon(_spiked(10, 0.55, 0.36, (0.5, 0.5)), colour)
    pen.ellipse(0.5, 0.5, 0.36, 0.36, colour)


def _house(pen: Pen, colour: Colour) -> None:
    pen.box(0.12, 0.45, 0.88, 1.0, colour)
    pen.polygon([(0.5, 0.0), (1.04, 0.47), (-0.04, 0.47)], PALETTE["brown"])
    pen.box(0.4, 0.65, 0.6, 1.0, DARK)


def _tree(pen: Pen, colour: Colour) -> None:
    pen.box(0.41, 0.6, 0.59, 1.03, PALETTE["brown"])
    pen.ellipse(0.5, 0.36, 0.4, 0.38, colour)


def _cat(pen: Pen, colour: Colour) -> None:
    pen.polygon([(0.06, 0.0), (0.46, 0.3), (0.1, 0.6)], colour)
    pen.polygon([(0.94, 0.0), (0.54, 0.3), (0.9, 0.6)], colour)
    pen.ellipse(0.5, 0.58, 0.46, 0.4, colour)
    bright = sum(colour) > 150
    for x in (0.32, 0.68):
        pen.ellipse(x, 0.52, 0.08, 0.1, DARK if bright else PALETTE["yellow"])
    pen.polygon([(0.42, 0.68), (0.58, 0.68), (0.5, 0.78)], PALETTE["pink"] if colour != PALETTE["pink"] else DARK)


def _boat(pen: Pen, colour: Colour) -> None:
    pen.polygon([(0.0, 0.7), (1.0, 0.7), (0.8, 0.98), (0.2, 0.98)], colour)
    pen.box(0.47, 0.04, 0.53, 0.72, PALETTE["brown"])
    pen.polygon([(0.56, 0.06), (0.94, 0.6), (0.56, 0.6)], (215, 215, 225))
    pen.polygon([(0.44, 0.14), (0.44, 0.6), (0.14, 0.6)], (215, 215, 225))


def _spiked(spikes: int, outer: float, inner: float, middle: tuple[float, float]) -> Points:
    points = []
    for step in range(2 * spikes):
        angle = math.pi * step / spikes - math.pi / 2
        reach = inner if step % 2 else outer
        points.append((middle[0] + reach * math.cos(angle), middle[1] + reach * math.sin(angle)))
    return points


DRAWN: dict[str, Callable[[Pen, Colour], None]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "heart": _heart,
    "sun": _sun,
    "house": _house,
    "tree": _tree,
    "cat": _cat,
    "boat": _boat,
}
