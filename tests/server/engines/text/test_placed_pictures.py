"""Signs of pictures on their way through a template."""

import pytest

from server.core.errors import InvalidValue
from server.core.text import ChatRequest, Message, Part, PicturePart, TextPart
from server.engines.text.control_text import ControlText, Stretch
from server.engines.text.pictures import Picture
from server.engines.text.placed_pictures import content_of, pictures_in, with_pictures

A, B = TextPart("a"), TextPart("b")
P = PicturePart(b"p")
FIRST, SECOND = Picture(b"1", b"1", 1, 1), Picture(b"2", b"2", 1, 1)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ((A,), "a"),
        ((A, B), "a\nb"),
        ((A, P, B), "a#b"),
        ((P, A, B), "#a\nb"),
        ((A, B, P), "a\nb#"),
        ((P, P), "##"),
        ((), ""),
        ((TextPart(""), B), "\nb"),
    ],
)
def test_contents(parts: tuple[Part, ...], expected: str) -> None:
    assert content_of(parts, iter("##")) == expected


def test_the_pictures_of_a_conversation_in_order() -> None:
    other = PicturePart(b"q")
    messages = (Message(role="user", parts=(A, P)), Message(role="tool", parts=(other, B)))
    assert pictures_in(ChatRequest(model="m", messages=messages)) == [P, other]


def test_pictures_take_the_place_of_their_signs() -> None:
    stretches = [Stretch("<s>x#y", special=True), Stretch("*", special=False), Stretch("z", special=True)]
    assert with_pictures(stretches, {"#": FIRST, "*": SECOND}) == [
        Stretch("<s>x", special=True),
        FIRST,
        Stretch("y", special=True),
        SECOND,
        Stretch("z", special=True),
    ]


def test_a_template_that_hides_a_picture_is_told() -> None:
    with pytest.raises(InvalidValue, match="template"):
        with_pictures([Stretch("x#", special=True)], {"#": FIRST, "*": SECOND})


def test_signs_are_characters_that_nobody_wrote() -> None:
    control = ControlText(["<|im_end|>"])
    signs = control.choose_marks(["\U000f0000 text"], 50)
    assert len(set(signs)) == 50
    assert all(len(sign) == 1 and sign not in "\U000f0000 text" for sign in signs)
