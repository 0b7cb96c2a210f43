import base64
import zlib
from typing import Any

import pytest

from compat.a1111.pnginfo import describe
from compat.a1111.refusals import Refused
from server.core.image import FileFormat
from server.http import exif
from server.http.picture_files import with_comment
from server.http.png import add_text
from tests.support.fake_images import ready, tiny_png

TEXT = "ein roter Kreis 青\nNegative prompt: n\nSteps: 1, Sampler: Euler, Seed: 5"
NO_PNGS = (b"text", tiny_png()[:40])
PNG = add_text(tiny_png(), {"parameters": TEXT, "Software": "test", "dpi": "72"})


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,"])
def test_a_picture_tells_its_texts(prefix: str) -> None:
    answer = describe(prefix + base64.b64encode(PNG).decode(), ())
    assert answer.info == TEXT
    assert answer.items == {"Software": "test"}
    assert answer.parameters["Prompt"] == "ein roter Kreis 青"
    assert answer.parameters["Seed"] == "5"


def test_a_picture_without_texts() -> None:
    answer = describe(base64.b64encode(tiny_png()).decode(), ())
    assert (answer.info, answer.items, answer.parameters["Prompt"]) == ("", {}, "")


@pytest.mark.parametrize(
    "image",
    ["", "notbase64!!", "a", "é", "data:image/png;base64,", *(base64.b64encode(data).decode() for data in NO_PNGS)],
)
def test_no_picture(image: str) -> None:
    with pytest.raises(Refused, match="Invalid encoded image"):
        describe(image, ())


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
def test_jpeg_and_webp_have_a_comment(kind: Any) -> None:
    file = ready(form=FileFormat(kind=kind)).file
    assert describe(base64.b64encode(file).decode(), ()).info == ""
    answer = describe(base64.b64encode(with_comment(file, TEXT)).decode(), ())
    assert (answer.info, answer.items, answer.parameters["Seed"]) == (TEXT, {}, "5")


def test_a_comment_wins_over_a_text() -> None:
    block = exif.block("a cat")
    chunk = len(block).to_bytes(4) + b"eXIf" + block + zlib.crc32(b"eXIf" + block).to_bytes(4)
    at = PNG.index(b"IDAT") - 4
    answer = describe(base64.b64encode(PNG[:at] + chunk + PNG[at:]).decode(), ())
    assert (answer.info, answer.items) == ("a cat", {"Software": "test"})


def test_other_kinds_tell_nothing() -> None:
    answer = describe(base64.b64encode(b"BM" + bytes(60)).decode(), ())
    assert (answer.info, answer.items) == ("", {})
