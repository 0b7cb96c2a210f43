"""Pictures without an engine: a tiny PNG, and what a picture job sends."""

import io
import struct
import zlib

from PIL import Image

from server.core.image import FileFormat, ImageFinished, ImageReady, ImageStarted, StepDone
from server.core.jobs import Event
from server.engines.image.files import PNG, held


def tiny_png(red: int = 0) -> bytes:
    """Return a PNG of one pixel."""
    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes((0, red, 0, 0)))
    chunks = _chunk(b"IHDR", header) + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def ready(index: int = 0, *, seed: int = 1, variation: int = 2, form: FileFormat = PNG) -> ImageReady:
    """Return a finished picture."""
    png, file = tiny_png(index), b""
    if form.kind != "png":
        png, file = held(Image.open(io.BytesIO(png)), form)
    return ImageReady(index=index, seed=seed, variation=variation, png=png, file=file, width=1, height=1)


def pictures(count: int = 1, *, steps: int = 2, form: FileFormat = PNG) -> list[Event]:
    """Return the events of a whole job that makes `count` pictures, one a batch."""
    events: list[Event] = [ImageStarted(passes=count, steps=steps)]
    for index in range(count):
        events += [StepDone(pass_index=index, step=step + 1, steps=steps) for step in range(steps)]
        events.append(ready(index, form=form))
    return [*events, ImageFinished(reason="complete")]


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
