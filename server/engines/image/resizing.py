"""Pictures and masks to another size, in A1111's modes.

| mode | what fits | the rest |
|---|---|---|
| `stretch` | both sides, without regard to shape | |
| `crop` | the side that leaves no gap | is cut off, half on each side |
| `fill` | the side that cuts nothing off | is filled by drawing out the outermost row or column |
| `latent` | as `fill`; pictures that are encoded first are not brought here | |

Sides are whole numbers by floor division, which decides about single pixels.
"""

from typing import NamedTuple

from PIL import Image

from server.core.errors import BadImage
from server.core.image import ResizeMode, Size
from server.engines.image.enlarging import Enlarger, enlarged_by, filter_named

LANCZOS = Image.Resampling.LANCZOS


class Place(NamedTuple):
    """Where a picture lies on a larger one, in pixels."""

    x: int
    y: int
    width: int
    height: int


def resized(image: Image.Image, size: Size, mode: ResizeMode, upscaler: str | Enlarger = "none") -> Image.Image:
    """Return the image at `size`; in other modes than `stretch` as RGB. Masks are enlarged by Lanczos alone.

    Raises:
        BadImage: it is so thin that nothing of it would be left.
    """
    if mode == "stretch":
        return _scaled(image, size.width, size.height, upscaler)
    wider = size.width / size.height > image.width / image.height
    by_width = wider if mode == "crop" else size.width / size.height < image.width / image.height
    by_height = not wider if mode == "crop" else size.width / size.height >= image.width / image.height
    width = size.width if by_width else image.width * size.height // image.height
    height = size.height if by_height else image.height * size.width // image.width
    inner = _scaled(image, width, height, upscaler)
    left, top = size.width // 2 - width // 2, size.height // 2 - height // 2
    canvas = Image.new("RGB", (size.width, size.height))
    canvas.paste(inner, (left, top))
    if mode != "crop":
        _draw_out(canvas, inner, left, top)
    return canvas


def put_back(image: Image.Image, whole: tuple[int, int], place: Place) -> Image.Image:
    """Return a transparent RGBA canvas of size `whole` with the image, cropped to fit, at `place`."""
    canvas = Image.new("RGBA", whole)
    canvas.paste(resized(image, Size(place.width, place.height), "crop"), (place.x, place.y))
    return canvas


def _scaled(image: Image.Image, width: int, height: int, upscaler: str | Enlarger) -> Image.Image:
    if width < 1 or height < 1:
        message = f"the picture is {image.width}x{image.height}; nothing of it is left at the size asked for"
        raise BadImage(message, reason="too_thin")
    if image.mode == "L":
        upscaler = "none"
    by = filter_named(upscaler) if isinstance(upscaler, str) else upscaler
    return enlarged_by(image, Size(width, height), by)


def _draw_out(canvas: Image.Image, inner: Image.Image, left: int, top: int) -> None:
    """Fill the bands above and below, or beside, with the nearest row or column."""
    width, height = canvas.size
    if top > 0:
        first, last = (0, 0, width, 0), (0, inner.height, width, inner.height)
        canvas.paste(inner.resize((width, top), box=first), (0, 0))
        canvas.paste(inner.resize((width, top), box=last), (0, top + inner.height))
    elif left > 0:
        first, last = (0, 0, 0, height), (inner.width, 0, inner.width, height)
        canvas.paste(inner.resize((left, height), box=first), (0, 0))
        canvas.paste(inner.resize((left, height), box=last), (left + inner.width, 0))
