import struct
import zlib
from typing import Any

import pytest

from compat.openai.images.look import LONGEST_SIDE, MOST_PIXELS, Look, has_transparency, look
from server.core.errors import BadImage
from tests.compat.openai.images.sent import hole, picture


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("PNG", {}),
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("GIF", {}),
        ("BMP", {}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0"}),
    ],
)
def test_sizes(kind: str, settings: dict[str, Any]) -> None:
    for width, height in ((70, 40), (1, 300), (513, 1)):
        assert look(picture(width, height, kind=kind, **settings), "image") == Look(width=width, height=height)


@pytest.mark.parametrize(("mode", "rgba"), [("RGBA", True), ("RGB", False), ("LA", False), ("L", False), ("P", False)])
def test_pngs_with_alpha(mode: str, rgba: bool) -> None:
    assert look(picture(mode=mode), "mask").rgba is rgba


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(10))
def test_a_turned_photo_is_as_it_is_shown(orientation: int, order: str) -> None:
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
    entries = [(0x010F, 2, 1, 0), (0x0112, 3, 1, orientation)]
    tiff = head + struct.pack(order + "H", 2)
    tiff += b"".join(struct.pack(order + "HHIHH", tag, kind, count, value, 0) for tag, kind, count, value in entries)
    photo = picture(70, 40, kind="JPEG", exif=b"Exif\0\0" + tiff + b"\0\0\0\0")
    seen = look(photo, "image")
    assert (seen.width, seen.height) == ((40, 70) if orientation in (5, 6, 7, 8) else (70, 40))


def test_damaged_exif_is_no_matter() -> None:
    for tiff in (b"", b"II", b"XX*\0", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\0\x05\x01\x12"):
        assert look(picture(70, 40, kind="JPEG", exif=b"Exif\0\0" + tiff), "image") == Look(width=70, height=40)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"<html></html>",
        b"%PDF-1.4",
        b"RIFF\0\0\0\0WAVE",
        b"RIFF",
        b"\xff\xd8\xff",
        b"\xff\xd8" + b"\xff" * 5000,
        b"\xff\xd8" + b"\xff\x01" * 5000,
        b"\xff\xd8" + b"\xff\xe0\0\0" * 50_000,
        b"\x89PNG\r\n\x1a\n",
        b"GIF89a\0\0\0\0",
        b"BM",
    ],
)
def test_what_is_no_picture(data: bytes) -> None:
    with pytest.raises(BadImage, match="image") as caught:
        look(data, "image")
    assert caught.value.fact("param") == "image"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "WEBP"])
def test_every_beginning_of_a_file_is_refused_or_read(kind: str) -> None:
    whole = picture(70, 40, kind=kind)
    for length in range(min(len(whole), 700)):
        try:
            assert look(whole[:length], "image") == Look(width=70, height=40)
        except BadImage:
            assert length < len(whole)


def bomb(width: int, height: int) -> bytes:
    data = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + data + struct.pack(">I", zlib.crc32(b"IHDR" + data))


def test_pixel_bombs_are_known_by_their_head() -> None:
    for width, height in ((8192, MOST_PIXELS // 8192 + 1), (LONGEST_SIDE + 1, 1), (2**32 - 1, 2**32 - 1)):
        with pytest.raises(BadImage, match="pixels"):
            look(bomb(width, height), "image")
    assert look(bomb(8192, MOST_PIXELS // 8192), "image").rgba


def test_transparency() -> None:
    assert has_transparency(picture(mode="RGBA"))
    assert has_transparency(hole(box=(63, 63, 64, 64)))
    assert not has_transparency(hole(box=(0, 0, 0, 0)))
    assert has_transparency(bomb(1, 1)), "nothing can be called opaque without pixels"
