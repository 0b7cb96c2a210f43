"""Pictures without an engine: a tiny PNG, and what a picture job sends."""

import struct
import zlib

from server.core.image import ImageFinished, ImageReady, ImageStarted, StepDone
from server.core.jobs import Event


def tiny_png(red: int = 0) -> bytes:
    """Return a PNG of one pixel."""
    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes((0, red, 0, 0)))
    chunks = _chunk(b"IHDR", header) + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def ready(index: int = 0, *, seed: int = 1, variation: int = 2) -> ImageReady:
    """Return a finished picture."""
    return ImageReady(index=index, seed=seed, variation=variation, png=tiny_png(index), width=1, height=1)


def pictures(count: int = 1, *, steps: int = 2) -> list[Event]:
    """Return the events of a whole job that makes `count` pictures, one a batch."""
    events: list[Event] = [ImageStarted(passes=count, steps=steps)]
    for index in range(count):
        events += [StepDone(pass_index=index, step=step + 1, steps=steps) for step in range(steps)]
        events.append(ready(index))
    return [*events, ImageFinished(reason="complete")]


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
