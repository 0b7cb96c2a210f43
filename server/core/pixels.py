"""Work on finished pixels, without a checkpoint: pictures enlarged, put side by side, cut up, joined, given more room.

Each of these is answered by `ImageStarted`, a `StepDone` for each piece of work, an `ImageReady` for each picture (its
seeds are 0: nothing is drawn here) and `ImageFinished`. `BUILT_IN` names the worker that is always there and needs no
file; a file of an upscaler is a model of its own.
"""

from typing import Literal

import msgspec

from server.core.image import FileFormat, Preprocessing, Size

BUILT_IN = "/pixels"
"""No file can have this name: those are relative to their folder."""

Kernel = Literal["none", "lanczos", "nearest"]
Rgb = tuple[int, int, int]


class UpscaleRequest(msgspec.Struct, frozen=True, kw_only=True, tag="upscale"):
    """Pictures enlarged by one upscaler, each by `factor`, or to cover `size`; `crop` then cuts that out of the middle.

    `model` is an upscaler's id, or BUILT_IN, which enlarges by `kernel` (`none` leaves pictures as they are). Networks
    work on tiles of `tile` pixels with `overlap` pixels in common, 0 = the whole picture at once. `under` holds for
    each picture the one that the result is laid over, `visibility` 0 ... 1; it has the same size. `file` is how the
    results are written: with the kernel `none` that is all that is done to a picture.
    """

    model: str
    pictures: tuple[bytes, ...]
    factor: float = 2.0
    size: Size | None = None
    crop: bool = False
    kernel: Kernel = "lanczos"
    tile: int = 192
    overlap: int = 8
    under: tuple[bytes, ...] = ()
    visibility: float = 1.0
    file: FileFormat = FileFormat()


class Caption(msgspec.Struct, frozen=True):
    """A line of a title; one that is not `active` is struck through."""

    text: str
    active: bool = True


class GridRequest(msgspec.Struct, frozen=True, kw_only=True, tag="grid"):
    """Pictures side by side, row after row, `columns` a row, each at the top left of a cell as large as the largest.

    An empty file is an empty cell. `margin` pixels stand between cells. Titles, a tuple of lines each, stand above the
    columns and left of the rows; there are none or one for each column, none or one for each row.
    """

    pictures: tuple[bytes, ...]
    columns: int
    background: Rgb = (255, 255, 255)
    margin: int = 0
    column_titles: tuple[tuple[Caption, ...], ...] = ()
    row_titles: tuple[tuple[Caption, ...], ...] = ()
    model: str = BUILT_IN


class SplitRequest(msgspec.Struct, frozen=True, kw_only=True, tag="split"):
    """A picture cut into tiles of one size that share at least `overlap` pixels, row after row."""

    picture: bytes
    tile: Size
    overlap: int
    model: str = BUILT_IN


class JoinRequest(msgspec.Struct, frozen=True, kw_only=True, tag="join"):
    """The tiles of a `SplitRequest` with the same `tile` and `overlap` joined to a picture of `size`, seams blended."""

    pictures: tuple[bytes, ...]
    size: Size
    tile: Size
    overlap: int
    model: str = BUILT_IN


class MapRequest(msgspec.Struct, frozen=True, kw_only=True, tag="map"):
    """The map that a preprocessing module makes of each picture; `masks` are none, or one for each of them."""

    pictures: tuple[bytes, ...]
    preprocessing: Preprocessing
    masks: tuple[bytes, ...] = ()
    model: str = BUILT_IN


class PoseRequest(msgspec.Struct, frozen=True, kw_only=True, tag="pose"):
    """People drawn as sticks from their joints. `poses` are JSON texts in OpenPose's format, one for each picture."""

    poses: tuple[bytes, ...]
    model: str = BUILT_IN


class GrowRequest(msgspec.Struct, frozen=True, kw_only=True, tag="grow"):
    """Room of `pixels` at one side of a picture, filled with noise of the picture's own spectrum and colours.

    Four pictures come back: the whole on a canvas of sides that are multiples of 64 (the room at the right or below
    begins where the picture ends, the rest of the canvas lies behind), the part of it that is to be made anew, which is
    at most `reach` in the direction of growth, its mask and its mask for latents (white = anew). `blur` pixels of the
    picture are masked, too, twice as many for latents. `detail` is the exponent on the spectrum, `colour_variation`
    0 ... 1 how far the noise of the three channels differs.
    """

    picture: bytes
    side: Literal["left", "right", "up", "down"]
    pixels: int
    reach: Size
    blur: int = 0
    detail: float = 1.0
    colour_variation: float = 0.05
    model: str = BUILT_IN


class FrameRequest(msgspec.Struct, frozen=True, kw_only=True, tag="frame"):
    """A picture on a black canvas with room around it.

    Three pictures come back: the canvas, its mask and its mask for latents (white = room). The mask reaches twice
    `blur` pixels into the picture, the one for latents half of it.
    """

    picture: bytes
    left: int = 0
    right: int = 0
    up: int = 0
    down: int = 0
    blur: int = 0
    model: str = BUILT_IN


class LayRequest(msgspec.Struct, frozen=True, kw_only=True, tag="lay"):
    """A picture laid onto another one at (`left`, `top`) pixels; then all beyond `size` is cut off."""

    under: bytes
    picture: bytes
    left: int
    top: int
    size: Size
    model: str = BUILT_IN


PixelWork = (
    UpscaleRequest
    | GridRequest
    | SplitRequest
    | JoinRequest
    | MapRequest
    | PoseRequest
    | GrowRequest
    | FrameRequest
    | LayRequest
)
