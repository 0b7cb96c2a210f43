"""Images as file bytes, in the formats that a request may ask for. Texts in files are not its business. Needs no torch.

| kind | of an image | is kept |
|---|---|---|
| `png` | any | every pixel |
| `webp`, lossless | RGB, RGBA | every pixel that is not fully transparent |
| `webp`, `jpeg` | RGB; others become that | what `quality` leaves |
"""

import io
from collections.abc import Sequence

from PIL import Image

from server.core.errors import InvalidValue
from server.core.image import FileFormat

PNG = FileFormat()
MOST_BYTES = 1000 * 1024 * 1024
"""Of all files of one finished picture: what fits in a message from a worker, with what else is in it."""

LONGEST_SIDE = {"png": 2**31 - 1, "jpeg": 65_500, "webp": 16_383}
"""In pixels: what the formats' encoders take."""


def written(image: Image.Image, form: FileFormat = PNG) -> bytes:
    """Return the image as a file; one too long for the format asked for is written as PNG."""
    file = io.BytesIO()
    kind = form.kind if max(image.size) <= LONGEST_SIDE[form.kind] else "png"
    match kind:
        case "png":
            image.save(file, format="PNG")
        case "jpeg":
            _opaque(image).save(file, format="JPEG", quality=form.quality)
        case "webp" if form.lossless:
            image.save(file, format="WEBP", lossless=True)
        case "webp":
            _opaque(image).save(file, format="WEBP", quality=form.quality)
    return file.getvalue()


def held(image: Image.Image, form: FileFormat) -> tuple[bytes, bytes]:
    """Return what `ImageReady` holds of the image as `png` and as `file`: one of them is empty."""
    data = written(image, form)
    return (data, b"") if form.kind == "png" else (b"", data)


def check_sent(image: Image.Image, files: Sequence[bytes], param: str = "size") -> None:
    """Raise InvalidValue when the files of a finished picture are larger than a message can be."""
    if sum(map(len, files)) > MOST_BYTES:
        sides = f"{image.width}x{image.height}"
        raise InvalidValue.of(param, f"the picture of {sides} pixels is more than {MOST_BYTES} bytes as a file")


def check(form: FileFormat) -> None:
    """Raise InvalidValue for a format that no file can have."""
    if not 1 <= form.quality <= 100:
        raise InvalidValue.of("quality", f"the quality of a file is {form.quality}, it must be 1 ... 100")


def _opaque(image: Image.Image) -> Image.Image:
    return image if image.mode == "RGB" else image.convert("RGB")
