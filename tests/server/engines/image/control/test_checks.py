import pytest

from server.core.errors import InvalidValue
from server.core.image import ControlUnit, ImageRequest, InitImages, Seeds, Size
from server.core.prompt import plain
from server.engines.image.control.checks import check_control


def request(unit: ControlUnit, init: InitImages | None = None) -> ImageRequest:
    words = plain("a")
    return ImageRequest(
        model="m", prompt=words, negative=words, size=Size(8, 8), seeds=Seeds(first=1), control=(unit,), init=init
    )


def test_a_unit_needs_a_picture_of_its_own_or_of_the_job() -> None:
    unit = ControlUnit(name="c", path="/c")
    with pytest.raises(InvalidValue, match="needs a picture"):
        check_control(request(unit))
    check_control(request(unit, InitImages(images=(b"",), strength=1.0)))
    check_control(request(ControlUnit(name="c", path="/c", image=b"")))
