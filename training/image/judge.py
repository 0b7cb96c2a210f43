"""Tells by rules whether a picture shows the scene that was asked for: colours, silhouette, count, place, size.

Nothing here is learned. The paper is the median of the picture's rim; what differs from it is cut into connected
pieces, specks are dropped (a night sky has stars), and each piece's silhouette is laid over those of all kinds.
"""

import random
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image

from training.image.drawing import render
from training.image.scenes import BACKGROUNDS, KINDS, NIGHT, PALETTE, PLACES, Colour, Scene, Thing

APART = 70
"""Sum of the differences in red, green and blue from which a pixel is not paper."""

SPECK = 60
"""Pixels of the largest piece that is no thing."""

GRID = 32
ASIDE = 0.11
"""How far from the middle a thing is when it stands to one side, and how near when it does not."""

SMALL, BIG = 0.40, 0.52
"""Longest side that is still small, and shortest that is big, as parts of the picture's."""

BODY_FROM = {"boat": 0.72, "house": 0.5}
"""Where the part that has a thing's colour begins, from the top: sails and roofs have colours of their own."""

Mask = np.ndarray


@dataclass(frozen=True)
class Piece:
    """One thing as seen: its silhouette [h, w] without holes, cut out, where that lies, and what it is like."""

    kind: str
    colour: str
    x: float
    y: float
    side: float


def faults(image: Image.Image, scene: Scene) -> list[str]:
    """Return what is wrong with a picture of a scene, in words; empty when it is right."""
    picture = np.asarray(image.convert("RGB"), dtype=np.int16)
    paper = np.median(_rim(picture), axis=0)
    wanted = "night" if scene.style == "night" else scene.background
    found = _nearest(paper, {**BACKGROUNDS, "night": NIGHT})
    wrong = [] if found == wanted else [f"the background is {found} and not {wanted}"]
    pieces = sorted(_pieces(picture, paper, scene), key=lambda piece: piece.x)
    count = sum(thing.count for thing in scene.things)
    if len(pieces) != count:
        return [*wrong, f"there are {len(pieces)} things and not {count}"]
    things = [thing for thing in scene.things for _ in range(thing.count)]
    for piece, thing in zip(pieces, things, strict=True):
        wrong += _faults_of(piece, thing, is_alone=count == 1, has_colour=scene.style != "sketch")
    return wrong


def main_colour(image: Image.Image) -> str | None:
    """Return the palette's name of what stands on the paper, None when nothing does."""
    mask = silhouette(image)
    return _commonest(np.asarray(image.convert("RGB"), dtype=np.int16)[mask]) if mask.sum() > SPECK else None


def silhouette(image: Image.Image) -> Mask:
    """Return where something stands on the paper, [h, w]."""
    picture = np.asarray(image.convert("RGB"), dtype=np.int16)
    return np.asarray(np.abs(picture - np.median(_rim(picture), axis=0)).sum(axis=2) > APART)


def _faults_of(piece: Piece, thing: Thing, *, is_alone: bool, has_colour: bool) -> Iterator[str]:
    if piece.kind != thing.kind:
        yield f"a {piece.kind} and not a {thing.kind}"
    if has_colour and piece.colour != thing.colour:
        yield f"{piece.colour} and not {thing.colour}"
    if not is_alone:
        return
    x, y = PLACES[thing.place]
    for axis, at, right in (("x", piece.x, x), ("y", piece.y, y)):
        side = 0 if right == 0.5 else 1 if right > 0.5 else -1
        seen = 0 if abs(at - 0.5) <= ASIDE else 1 if at > 0.5 else -1
        if side != seen:
            yield f"in the wrong place: {axis} is {at:.2f}"
    if (thing.size == "small" and piece.side > SMALL) or (thing.size == "big" and piece.side < BIG):
        yield f"not {thing.size}: {piece.side:.2f} of the picture"


def _pieces(picture: np.ndarray, paper: np.ndarray, scene: Scene) -> Iterator[Piece]:
    mask = np.abs(picture - paper).sum(axis=2) > APART
    height, width = mask.shape
    for part in _parts(mask):
        down, across = np.nonzero(part)
        top, bottom, left, right = down.min(), down.max() + 1, across.min(), across.max() + 1
        cut = part[top:bottom, left:right]
        kind = _kind(_filled(cut), scene.style == "sketch")
        body = cut.copy()
        body[: round(BODY_FROM.get(kind, 0) * len(body))] = False
        yield Piece(
            kind=kind,
            colour=_commonest(picture[top:bottom, left:right][body]),
            x=float((left + right) / 2 / width),
            y=float((top + bottom) / 2 / height),
            side=float(max(bottom - top, right - left) / width),
        )


def _parts(mask: Mask) -> list[Mask]:
    """Return a mask of each thing: its pieces lie above each other, as those of a boat do, and no thing is a speck."""
    parts: list[Mask] = []
    for rows, columns in _connected(_widened(mask)):
        part = np.zeros_like(mask)
        part[rows, columns] = True
        part &= mask
        if part.sum() <= SPECK:
            continue
        below = [other for other in parts if _are_stacked(part, other)]
        parts = [other for other in parts if not any(other is one for one in below)]
        parts.append(np.logical_or.reduce([part, *below]))
    return parts


def _are_stacked(one: Mask, other: Mask) -> bool:
    """Tell whether most of the columns of one are those of the other."""
    first, second = one.any(axis=0), other.any(axis=0)
    return bool((first & second).sum() > 0.5 * min(first.sum(), second.sum()))


def _kind(silhouette: Mask, is_sketch: bool) -> str:
    """Return the kind whose silhouette overlaps best (intersection over union)."""
    seen = _squeezed(silhouette)
    return max(KINDS, key=lambda kind: _overlap(seen, _template(kind, is_sketch)))


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.minimum(one, other).sum() / np.maximum(one, other).sum())


@cache
def _template(kind: str, is_sketch: bool) -> np.ndarray:
    """Return the silhouette of a kind [GRID, GRID], 0 ... 1, with its shape of box kept."""
    scene = Scene(
        (Thing(kind, "black", size="big"),), "pink" if not is_sketch else "white", "sketch" if is_sketch else ""
    )
    picture = np.asarray(render(scene, random.Random(0)), dtype=np.int16)
    mask = np.abs(picture - picture[0, 0]).sum(axis=2) > APART
    down, across = np.nonzero(mask)
    return _squeezed(_filled(mask[down.min() : down.max() + 1, across.min() : across.max() + 1]))


def _squeezed(silhouette: Mask) -> np.ndarray:
    """Return a silhouette in the middle of a square, as grey values [GRID, GRID]."""
    height, width = silhouette.shape
    side = max(height, width)
    square = np.zeros((side, side), dtype=np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = 255 * silhouette
    return np.asarray(Image.fromarray(square).resize((GRID, GRID), Image.Resampling.BOX), dtype=np.float32) / 255


def _filled(mask: Mask) -> Mask:
    """Return a mask with its holes filled: all that cannot be reached from outside."""
    outside = np.pad(~mask, 1, constant_values=True)
    for rows, columns in _connected(outside, diagonal=False):
        if (0, 0) in zip(rows[:1].tolist(), columns[:1].tolist(), strict=True):
            reached = np.zeros_like(outside)
            reached[rows, columns] = True
            return np.asarray(~reached[1:-1, 1:-1])
    return mask


def _widened(mask: Mask) -> Mask:
    """Return a mask with every pixel's neighbours, so hairline cracks part nothing."""
    around = np.pad(mask, 1)
    height, width = mask.shape
    shifted = [around[row : row + height, column : column + width] for row in range(3) for column in range(3)]
    return np.asarray(np.logical_or.reduce(shifted))


def _connected(mask: Mask, *, diagonal: bool = True) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield rows and columns of each connected piece, by the first pixel in reading order, which comes first."""
    left = mask.copy()
    steps = [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if (a or b) and (diagonal or not (a and b))]
    height, width = mask.shape
    for start in zip(*np.nonzero(mask), strict=True):
        if not left[start]:
            continue
        left[start] = False
        queue, found = deque([(int(start[0]), int(start[1]))]), []
        while queue:
            row, column = queue.popleft()
            found.append((row, column))
            for down, across in steps:
                at = (row + down, column + across)
                if 0 <= at[0] < height and 0 <= at[1] < width and left[at]:
                    left[at] = False
                    queue.append(at)
        rows, columns = np.array(found).T
        yield rows, columns


def _commonest(colours: np.ndarray) -> str:
    """Return the palette's name that most of some pixels [n, 3] are nearest to."""
    if not len(colours):
        return ""
    table = np.array(list(PALETTE.values()), dtype=np.int16)
    nearest = ((colours[:, None, :].astype(np.int32) - table) ** 2).sum(axis=2).argmin(axis=1)
    return list(PALETTE)[int(np.bincount(nearest, minlength=len(table)).argmax())]


def _nearest(colour: np.ndarray, names: Mapping[str, Colour]) -> str:
    return min(names, key=lambda name: float(np.square(colour - np.array(names[name])).sum()))


def _rim(picture: np.ndarray) -> np.ndarray:
    sides = (picture[:3], picture[-3:], picture[:, :3], picture[:, -3:])
    return np.concatenate([side.reshape(-1, 3) for side in sides])
