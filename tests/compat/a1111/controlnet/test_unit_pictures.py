import base64
from typing import Any

import pytest

from compat.a1111.controlnet.unit_pictures import UnitPictures, pictures_of
from compat.a1111.refusals import Refused
from server.core.errors import InvalidValue
from tests.support.fake_images import tiny_png

ONE, TWO = tiny_png(1), tiny_png(2)
A, B = (base64.b64encode(data).decode() for data in (ONE, TWO))


@pytest.mark.parametrize(
    "image, mask, wanted",
    [
        (A, None, (ONE, None)),
        (A, B, (ONE, TWO)),
        (f"data:image/png;base64,{A}", None, (ONE, None)),
        ({"image": A}, None, (ONE, None)),
        ({"image": A, "mask": B}, None, (ONE, TWO)),
        ({"image": A, "mask": None}, B, (ONE, TWO)),
        ([A, B], None, (ONE, TWO)),
        ([{"image": A, "mask": B}], None, (ONE, TWO)),
        (None, None, (None, None)),
        ("", "", (None, None)),
        ([], None, (None, None)),
        (None, B, (None, TWO)),
    ],
)
def test_all_forms(image: Any, mask: Any, wanted: Any) -> None:
    assert pictures_of(image, mask) == UnitPictures(image=wanted[0], mask=wanted[1])


@pytest.mark.parametrize("image", ["no", 7, [A], [A, B, A], "/etc/passwd", "http://127.0.0.1/x.png", {"image": 3}])
def test_what_is_no_picture(image: Any) -> None:
    with pytest.raises(Refused):
        pictures_of(image, None)


def test_several_pictures() -> None:
    found = pictures_of([{"image": A, "mask": B}, {"image": B}, {"image": None}, {"image": A}], None)
    assert found == UnitPictures(image=ONE, mask=TWO, more=(TWO, ONE))
    with pytest.raises(InvalidValue):
        pictures_of([{"image": A}] * 33, None)
    with pytest.raises(Refused):
        pictures_of([{"image": A}, {"image": "no"}], None)
