import base64

import pytest

from compat.a1111.pnginfo import describe
from compat.a1111.refusals import Refused
from server.core.errors import Unsupported
from server.http.png import add_text
from tests.support.fake_images import tiny_png

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


def test_other_kinds_are_refused_clearly() -> None:
    with pytest.raises(Unsupported, match="PNG"):
        describe(base64.b64encode(b"\xff\xd8\xff\xe0 jpeg").decode(), ())
