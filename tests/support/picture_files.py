"""Picture files made for tests of what comes from outside."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image


def file_of(image: Image.Image, kind: str = "PNG", **saving: Any) -> bytes:
    """Return the image as a file."""
    file = io.BytesIO()
    image.save(file, format=kind, **saving)
    return file.getvalue()


def noise_image(width: int, height: int, *, seed: int = 0) -> Image.Image:
    """Return an RGB image of random pixels."""
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def disc(size: int, *, radius: float = 10.0, middle: tuple[float, float] | None = None) -> Image.Image:
    """Return a black mask of mode L with a white disc."""
    y, x = np.mgrid[:size, :size]
    at = middle or (size / 2, size / 2)
    inside = (x - at[0]) ** 2 + (y - at[1]) ** 2 < radius**2
    return Image.fromarray((inside * 255).astype(np.uint8))


def png_of_size(width: int, height: int) -> bytes:
    """Return a PNG whose header says a size for which there are no pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def image_in(data: bytes) -> Image.Image:
    """Return the image of a file, read to the end."""
    image = Image.open(io.BytesIO(data))
    image.load()
    return image
