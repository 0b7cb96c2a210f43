"""Picture files from outside to images: known formats only, bounded by the header, first frame, upright.

What cannot be read is told in fixed sentences: decoders' own words may hold addresses and paths.
"""

import io
import logging
import warnings

from PIL import Image, ImageOps

from server.core.errors import BadImage

logger = logging.getLogger(__name__)

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")

MOST_PIXELS = 64 * 1024 * 1024
"""Of one picture."""

MOST_PIXELS_TOGETHER = 256 * 1024 * 1024
"""Of all pictures of one request."""

UNREADABLE = "unreadable"
TOO_LARGE = "too_large"

Rgb = tuple[int, int, int]


def opened(files: tuple[bytes, ...], param: str) -> list[Image.Image]:
    """Return the images of one field of a request, decoded one after the other.

    Raises:
        BadImage: as `decoded`, or they are too large together.
    """
    images: list[Image.Image] = []
    pixels = 0
    for data in files:
        image = decoded(data, param)
        pixels += image.width * image.height
        if pixels > MOST_PIXELS_TOGETHER:
            raise _refused(f"the pictures have more than {MOST_PIXELS_TOGETHER} pixels together", param, TOO_LARGE)
        images.append(image)
    return images


def decoded(data: bytes, param: str) -> Image.Image:
    """Return the first frame of a picture file, turned as its EXIF data say, in whatever mode it has.

    RGB and palette PNGs with a transparent colour table become RGBA.

    Raises:
        BadImage: no picture of a known format, damaged, or over `MOST_PIXELS` by its header. The fact `reason` tells
            `unreadable` from `too_large`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise _too_large(param) from None
    except Exception as error:  # decoders raise whatever comes to them
        raise _unreadable(error, param) from None
    if image.width * image.height > MOST_PIXELS:
        raise _too_large(param)
    try:
        image.load()
        upright = ImageOps.exif_transpose(image)
        is_masked = upright.mode in ("RGB", "P") and isinstance(upright.info.get("transparency"), bytes)
        return upright.convert("RGBA") if is_masked else upright
    except Exception as error:
        raise _unreadable(error, param) from None


def flattened(image: Image.Image, background: Rgb) -> Image.Image:
    """Return the image as RGB, with `background` behind what is transparent; only RGBA has transparency here."""
    if image.mode == "RGBA":
        behind = Image.new("RGBA", image.size, (*background, 255))
        behind.paste(image, mask=image)
        image = behind
    return image.convert("RGB")


def _too_large(param: str) -> BadImage:
    return _refused(f"the picture has more than {MOST_PIXELS} pixels", param, TOO_LARGE)


def _unreadable(error: Exception, param: str) -> BadImage:
    logger.info("a picture in %s could not be read: %s", param, type(error).__name__)
    return _refused(f"this is no picture that can be read; known formats are {', '.join(FORMATS)}", param, UNREADABLE)


def _refused(message: str, param: str, reason: str) -> BadImage:
    return BadImage(message, param=param, reason=reason)
