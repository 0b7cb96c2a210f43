"""Every kind of thing as a picture of a few blocks, in four sizes: what `pixel_art` draws with.

X = the thing's own colour, b = brown, d = dark, w = a sail, . = paper.
"""

from training.image.drawing import DARK
from training.image.scenes import PALETTE, Colour

INKS: dict[str, Colour] = {"b": PALETTE["brown"], "d": DARK, "w": (215, 215, 225)}
"""Colours that are the same whatever colour is asked for."""

ICONS: dict[str, tuple[str, ...]] = {
    "circle": ("..XX.. .XXXX. XXXXXX XXXXXX .XXXX. ..XX..", ".XX. XXXX XXXX .XX.", ".X. XXX .X.", "XX XX"),
    "square": ("XXXXXX XXXXXX XXXXXX XXXXXX XXXXXX XXXXXX", "XXXX XXXX XXXX XXXX", "X.X .X. X.X", "XX XX"),
    "triangle": ("..XX.. ..XX.. .XXXX. .XXXX. XXXXXX XXXXXX", "...X ..XX .XXX XXXX", "..X .XX XXX", ".X XX"),
    "star": ("..XX.. ..XX.. XXXXXX .XXXX. .XXXX. XX..XX", ".XX. XXXX .XX. X..X", ".X. XXX X.X", "X. XX"),
    "heart": (".X..X. XXXXXX XXXXXX XXXXXX .XXXX. ..XX..", "X..X XXXX XXXX .XX.", "X.X XXX .X.", "XX X."),
    "sun": ("X.XX.X .XXXX. XXXXXX XXXXXX .XXXX. X.XX.X", "X..X .XX. .XX. X..X", "X.X .X. X.X", "XX XX"),
    "house": ("..bb.. .bbbb. bbbbbb XXXXXX XXddXX XXddXX", ".bb. bbbb XXXX XXdX", ".b. bbb XdX", "bb XX"),
    "tree": (".XXXX. XXXXXX XXXXXX .XXXX. ..bb.. ..bb..", ".XX. XXXX .XX. .bb.", "XXX XXX .b.", "XX .b"),
    "cat": ("X....X XX..XX XXXXXX XdXXdX XXXXXX .XXXX.", "X..X XXXX dXXd XXXX", "X.X .X. X.X", "XX XX"),
    "boat": ("..b... .wbw.. .wbww. ..b... XXXXXX .XXXX.", ".bw. .bww XXXX .XX.", ".w. .ww XXX", "w. XX"),
}
"""By kind: 6, 4, 3 and 2 blocks across, rows from the top."""

SIDES = (6, 4, 3, 2)


def icon(kind: str, across: int, colour: Colour) -> list[list[Colour | None]]:
    """Return rows of colours of a thing so many blocks across, one of SIDES; None is paper."""
    rows = ICONS[kind][SIDES.index(across)].split()
    inks: dict[str, Colour | None] = {"X": colour, ".": None, **INKS}
    return [[inks[letter] for letter in row] for row in rows]
