import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from server.core.errors import InvalidValue
from server.core.image import FileFormat
from server.engines.image.files import LONGEST_SIDE, check, held, written


def noise(mode: str = "RGB", size: tuple[int, int] = (48, 32)) -> Image.Image:
    channels = {"RGB": 3, "RGBA": 4}[mode]
    pixels = np.random.default_rng(1).integers(0, 256, (size[1], size[0], channels), dtype=np.uint8)
    return Image.fromarray(pixels, mode)


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def furthest(one: Image.Image, other: Image.Image) -> float:
    """Return the mean difference of the two pictures' pixels."""
    return float(np.abs(np.asarray(one, dtype=int) - np.asarray(other, dtype=int)).mean())


@pytest.mark.parametrize(("kind", "name"), [("png", "PNG"), ("jpeg", "JPEG"), ("webp", "WEBP")])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
def test_each_format_is_that_format_whatever_the_image(kind: Any, name: str, mode: str) -> None:
    image = opened(written(Image.new(mode, (7, 5)), FileFormat(kind=kind)))
    assert (image.format, image.size) == (name, (7, 5))


@pytest.mark.parametrize("form", [FileFormat(), FileFormat(kind="webp", lossless=True)])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_what_loses_nothing(form: FileFormat, mode: str) -> None:
    image = noise(mode)
    if mode == "RGBA":
        image.putalpha(200)  # what cannot be seen may be lost
    assert opened(written(image, form)).convert(mode).tobytes() == image.tobytes()


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
def test_quality_is_paid_for_in_bytes(kind: Any) -> None:
    image = noise()
    files = [written(image, FileFormat(kind=kind, quality=quality)) for quality in (1, 50, 100)]
    losses = [furthest(opened(file), image) for file in files]
    assert sorted(map(len, files)) == list(map(len, files))
    assert losses[0] > losses[1] > losses[2]


def test_no_texts_are_in_files() -> None:
    for kind in ("png", "jpeg", "webp"):
        info = opened(written(noise(), FileFormat(kind=kind))).info  # type: ignore[arg-type]
        assert "exif" not in info and "parameters" not in info and "comment" not in info


def test_what_is_too_long_for_a_format_stays_png() -> None:
    for kind in ("jpeg", "webp"):
        side = LONGEST_SIDE[kind]
        assert opened(written(Image.new("L", (side, 1)), FileFormat(kind=kind))).format == kind.upper()  # type: ignore[arg-type]
        assert opened(written(Image.new("L", (side + 1, 1)), FileFormat(kind=kind))).format == "PNG"  # type: ignore[arg-type]


def test_an_event_holds_one_of_the_two() -> None:
    png, file = held(noise(), FileFormat())
    assert opened(png).format == "PNG" and file == b""
    png, file = held(noise(), FileFormat(kind="jpeg"))
    assert png == b"" and opened(file).format == "JPEG"


@pytest.mark.parametrize("quality", [0, 101, -5])
def test_qualities_that_are_none(quality: int) -> None:
    with pytest.raises(InvalidValue) as caught:
        check(FileFormat(quality=quality))
    assert caught.value.fact("param") == "quality"
