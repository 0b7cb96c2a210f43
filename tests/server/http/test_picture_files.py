import contextlib
import io
import random
from typing import Any

import pytest
from PIL import Image

from server.core.errors import BadImage
from server.http import exif
from server.http.picture_files import comment_of, kind_of, segments, with_comment
from tests.support.fake_images import tiny_png

TEXT = "ein roter Kreis 青\nSteps: 1"


def file(kind: str, mode: str = "RGB", size: tuple[int, int] = (33, 7), **how: Any) -> bytes:
    out = io.BytesIO()
    Image.new(mode, size, (3, 200, 9) if mode == "RGB" else (3, 200, 9, 100)).save(out, kind, **how)
    return out.getvalue()


FILES = {
    "jpeg": file("JPEG"),
    "progressive": file("JPEG", progressive=True),
    "webp": file("WEBP"),
    "even": file("WEBP", size=(16_383, 1)),
    "lossless": file("WEBP", lossless=True),
    "alpha": file("WEBP", "RGBA"),
    "lossless alpha": file("WEBP", "RGBA", lossless=True),
    "with a comment": file("WEBP", exif=b"Exif\0\0" + exif.block("an older one")),
}


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


@pytest.mark.parametrize("name", FILES)
def test_a_comment_is_put_in_and_read_and_the_pixels_stay(name: str) -> None:
    before, after = FILES[name], with_comment(FILES[name], TEXT)
    assert comment_of(before) in ("", "an older one")
    assert comment_of(after) == TEXT
    image, changed = opened(before), opened(after)
    assert (image.mode, image.size, image.tobytes()) == (changed.mode, changed.size, changed.tobytes())
    assert changed.getexif().get_ifd(0x8769)[0x9286] == b"UNICODE\0" + TEXT.encode("utf-16-be")
    assert kind_of(after) == kind_of(before)


def test_other_files_are_given_none() -> None:
    for data in (tiny_png(), b"", b"\xff\xd8\xff", b"RIFF....WEBP", b"GIF89a"):
        with pytest.raises(BadImage):
            with_comment(data, TEXT)


def test_what_kind_a_file_is() -> None:
    assert [kind_of(data) for data in (tiny_png(), FILES["jpeg"], FILES["webp"])] == ["png", "jpeg", "webp"]
    assert [kind_of(data) for data in (b"", b"GIF89a", b"RIFF0000AVI ", b"BM")] == [None] * 4


@pytest.mark.parametrize("frames", [1, 3])
def test_comments_of_gifs(frames: int) -> None:
    images = [Image.new("RGB", (9, 9), (k * 9, 0, 0)) for k in range(frames)]
    out = io.BytesIO()
    images[0].save(out, "GIF", save_all=frames > 1, append_images=images[1:], comment=b"a cat " * 90)
    assert comment_of(out.getvalue()) == "a cat " * 90
    out = io.BytesIO()
    images[0].save(out, "GIF")
    assert comment_of(out.getvalue()) == ""


def test_filling_between_segments_costs_no_time() -> None:
    jpeg = FILES["jpeg"]
    filled = jpeg[:2] + b"\xff" * 30_000_000 + jpeg[2:]
    assert len(list(segments(filled))) == len(list(segments(jpeg)))


def test_damage_is_no_comment() -> None:
    dice = random.Random(2)
    goods = [with_comment(FILES[name], TEXT) for name in ("jpeg", "webp", "lossless")]
    out = io.BytesIO()
    Image.new("P", (5, 5)).save(out, "GIF", comment="hi")
    for good in [*goods, out.getvalue()]:
        for _ in range(1000):
            bad = bytearray(good[: dice.randrange(12, len(good) + 1)])
            for _ in range(dice.randrange(5)):
                bad[dice.randrange(len(bad))] = dice.randrange(256)
            comment_of(bytes(bad))
            if kind_of(bytes(bad)) in ("jpeg", "webp"):
                with contextlib.suppress(BadImage):
                    with_comment(bytes(bad), TEXT)
