"""Pictures of a conversation before a projector sees them: read, and named by their content.

A prompt is a row of token ids, and what is computed of it is found again by these ids. The places of a picture have ids
too: negative numbers that follow from its content, so that the same picture is found again and no other is taken for
it.
"""

import hashlib
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from server.engines.input_pictures import decoded, flattened
from server.engines.text.prefix import Tokens

WHITE = (255, 255, 255)

Pixels = npt.NDArray[np.uint8]


class Picture(NamedTuple):
    """A picture file that can be read: its SHA-256, and its size once it stands upright."""

    data: bytes
    digest: bytes
    width: int
    height: int


class PictureRun(NamedTuple):
    """What one piece of a picture takes in a prompt: `size` places from `start` on.

    `places` [1 or 4, size] are the positions that the model computes with, `advance` how far the text behind it is
    moved on; models that see rows and columns (M-RoPE) have four for a place, and fewer of them than places. A piece
    that is `whole` is computed in one go, since its places look at each other. `piece` counts the pieces of a picture.
    """

    start: int
    size: int
    advance: int
    places: npt.NDArray[np.int32]
    whole: bool
    picture: Picture
    piece: int

    @property
    def end(self) -> int:
        """Return the place behind it."""
        return self.start + self.size


Runs = tuple[PictureRun, ...]


def digest_of(data: bytes) -> bytes:
    """Return the name of a picture file, which no other has."""
    return hashlib.sha256(data).digest()


def read_pixels(data: bytes, param: str) -> Pixels:
    """Return the first frame of a picture file [height, width, 3], upright, on white where it is transparent.

    Raises:
        BadImage: as `input_pictures.decoded`.
    """
    image = decoded(data, param)
    if image.mode in ("LA", "PA", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
    return np.ascontiguousarray(flattened(image, WHITE), np.uint8)


def place_ids(digest: bytes, piece: int, count: int) -> Tokens:
    """Return the negative ids [count] of the places of one piece of a picture: 31 bits each of SHAKE-128."""
    drawn = hashlib.shake_128(digest + piece.to_bytes(4, "little")).digest(4 * count)
    return (np.frombuffer(drawn, np.uint32) | np.uint32(1 << 31)).view(np.int32).copy()


def clipped(runs: Runs, length: int) -> int:
    """Return the most places, up to `length`, that end in no piece of a picture: a part of one is of no use."""
    return next((run.start for run in runs if run.start < length < run.end), length)


def position_after(runs: Runs, length: int) -> int:
    """Return the position of the place behind the first `length`, which ends in no piece of a picture."""
    return length - sum(run.size - run.advance for run in runs if run.end <= length)
