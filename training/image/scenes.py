"""What can be drawn: scenes as values, and the dice that make them.

A scene is a background, a style and things; everything that a caption may name is a field, so a caption is always true
and a picture can be judged by rules.
"""

import random
from dataclasses import dataclass

Colour = tuple[int, int, int]

PALETTE: dict[str, Colour] = {
    "red": (220, 40, 40),
    "orange": (245, 145, 30),
    "yellow": (250, 220, 40),
    "green": (40, 165, 70),
    "blue": (40, 85, 220),
    "purple": (145, 60, 190),
    "pink": (250, 150, 195),
    "brown": (130, 80, 45),
    "black": (20, 20, 20),
    "white": (250, 250, 250),
    "gray": (140, 140, 140),
}

BACKGROUNDS: dict[str, Colour] = {
    "white": PALETTE["white"],
    "black": PALETTE["black"],
    "gray": PALETTE["gray"],
    "light blue": (165, 215, 250),
    "yellow": PALETTE["yellow"],
    "green": PALETTE["green"],
    "blue": PALETTE["blue"],
    "red": PALETTE["red"],
    "pink": PALETTE["pink"],
}

NIGHT: Colour = (18, 24, 72)
"""The sky of the style "night"."""

SHAPES = ("circle", "square", "triangle", "star", "heart")
THINGS = ("sun", "house", "tree", "cat", "boat")
KINDS = SHAPES + THINGS

OWN_COLOUR = {"sun": "yellow", "house": "red", "tree": "green", "cat": "orange", "boat": "brown"}
"""What a thing looks like when no colour is named; plain shapes are always given one."""

SIZES = {"small": 0.30, "": 0.45, "big": 0.66}
"""Side of the square around a thing that stands alone, as a part of the picture's."""

PLACES = {"": (0.5, 0.5), "left": (0.27, 0.5), "right": (0.73, 0.5), "top": (0.5, 0.27), "bottom": (0.5, 0.73)}
"""Middle of a thing that stands alone, as parts of the picture's width and height."""

STYLES = ("", "night", "sketch")

ROWS = {2: ((0.28, 0.5), (0.72, 0.5)), 3: ((0.18, 0.5), (0.5, 0.5), (0.82, 0.5))}
ROW_SIZES = {2: 0.36, 3: 0.22}


@dataclass(frozen=True)
class Thing:
    """One kind of thing in one colour: `count` of them in a row, or one at a place in a size ("" = not named)."""

    kind: str
    colour: str
    count: int = 1
    size: str = ""
    place: str = ""


@dataclass(frozen=True)
class Scene:
    """A picture before it is drawn: one thing or two; `background` is ignored by the style "night"."""

    things: tuple[Thing, ...]
    background: str = "white"
    style: str = ""


def random_scene(dice: random.Random) -> Scene:
    """Return a scene: mostly one thing, sometimes a row of two or three, sometimes two different things."""
    style = dice.choices(STYLES, (82, 10, 8))[0]
    if style == "sketch":
        return Scene((_single(dice, _kind(dice), "black"),), "white", style)
    background = "night" if style == "night" else _background(dice)
    first = _kind(dice)
    colour = _colour(dice, first, background)
    roll = dice.random()
    if roll < 0.17:
        return Scene((Thing(first, colour, count=dice.choice((2, 3))),), background, style)
    if roll < 0.27:
        second = dice.choice([kind for kind in KINDS if kind != first])
        left = Thing(first, colour, place="left")
        return Scene((left, Thing(second, _colour(dice, second, background), place="right")), background, style)
    return Scene((_single(dice, first, colour),), background, style)


def is_visible(colour: str, background: str) -> bool:
    """Tell whether a colour can be told from a background at a glance."""
    one = PALETTE[colour]
    other = NIGHT if background == "night" else BACKGROUNDS[background]
    return sum(abs(a - b) for a, b in zip(one, other, strict=True)) > 150


def _single(dice: random.Random, kind: str, colour: str) -> Thing:
    place = dice.choice(list(PLACES)) if dice.random() < 0.5 else ""
    size = dice.choice(["small", "", "big"]) if not place else dice.choice(["small", "", ""])
    return Thing(kind, colour, size=size, place=place)


def _kind(dice: random.Random) -> str:
    return dice.choice(SHAPES) if dice.random() < 0.6 else dice.choice(THINGS)


def _background(dice: random.Random) -> str:
    return "white" if dice.random() < 0.4 else dice.choice(list(BACKGROUNDS))


def _colour(dice: random.Random, kind: str, background: str) -> str:
    own = OWN_COLOUR.get(kind)
    if own is not None and dice.random() < 0.5 and is_visible(own, background):
        return own
    return dice.choice([name for name in PALETTE if is_visible(name, background)])
