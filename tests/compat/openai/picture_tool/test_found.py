import asyncio
import base64
from typing import Any

import pytest

from compat.openai.picture_tool.found import MOST_CALLS, is_offered, newest_picture, picture_tool
from compat.openai.picture_tool.tool import PictureTool
from server.core.errors import BadImage, InvalidValue, Unsupported
from server.core.models import ModelCard
from server.core.text import Message, PicturePart, TextPart
from tests.compat.openai.images.sent import card, hole, picture
from tests.compat.openai.picture_tool.asked import fields, service
from tests.support.fake_service import text_card


def url(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()


def found(*tools: Any, cards: tuple[ModelCard, ...] = (), default: str = "", **known: Any) -> PictureTool | None:
    return asyncio.run(picture_tool(tools, service(*cards), default, **known))


def test_a_request_without_the_tool() -> None:
    assert found() is None
    assert found(fields(type="function"), fields(type="web_search")) is None
    assert asyncio.run(picture_tool(None, service(), "")) is None
    assert not is_offered(None) and not is_offered([fields(type="function")]) and is_offered([fields()])


def test_where_it_is_and_what_makes_its_pictures() -> None:
    made = found(fields(type="function"), fields())
    assert made is not None
    assert (made.where, made.card.id, made.most, made.base) == ("tools[1]", "paint", MOST_CALLS, None)
    cards = text_card(), card("a"), card("b")
    for name, default, chosen in (("b", "a", "b"), ("gpt-image-1", "b", "b"), (None, "b", "b"), (None, "", "a")):
        made = found(fields(model=name), cards=cards, default=default, most=3, base=b"x")
        assert made is not None
        assert (made.card.id, made.most, made.base) == (chosen, 3, b"x")


@pytest.mark.parametrize(
    ("tools", "kind", "param"),
    [
        ([{}, {}], InvalidValue, "tools[1].type"),
        ([{"model": "nobody"}], InvalidValue, "tools[0].model"),
        ([{"model": "tiny"}], InvalidValue, "tools[0].model"),
        ([{"size": "huge"}], InvalidValue, "tools[0].size"),
        ([{"type": "function"}, {"action": "edit"}], InvalidValue, "tools[1].action"),
        ([{"input_image_mask": {"file_id": "file-1"}}], Unsupported, "tools[0].input_image_mask.file_id"),
        ([{"input_image_mask": {"image_url": "x"}}], InvalidValue, "tools[0].input_image_mask.image_url"),
    ],
)
def test_mistakes_are_told_before_the_chat(tools: list[dict[str, Any]], kind: Any, param: str) -> None:
    with pytest.raises(kind) as caught:
        found(*(fields(**tool) for tool in tools))
    assert caught.value.fact("param") == param


@pytest.mark.parametrize("name", [None, "gpt-image-1", "paint"])
def test_a_house_without_a_checkpoint_says_so(name: str | None) -> None:
    with pytest.raises((InvalidValue, Unsupported), match=r"checkpoint|'paint'"):
        found(fields(model=name), cards=(text_card(),))


def test_a_mask() -> None:
    image, mask = picture(), hole()
    made = found(fields(action="edit", input_image_mask={"image_url": url(mask)}), base=image)
    assert made is not None and made.mask == mask
    with pytest.raises(BadImage):
        found(fields(action="edit", input_image_mask={"image_url": url(picture())}), base=image)
    for empty in ({}, {"image_url": None}):
        made = found(fields(input_image_mask=empty))
        assert made is not None and made.mask is None


def test_whether_the_chat_model_sees() -> None:
    cards = text_card("blind"), text_card("seeing", projector="/x.gguf"), card()
    for name, sees in (("blind", False), ("seeing", True), ("nobody", False)):
        made = found(fields(), cards=cards, model=name)
        assert made is not None and made.sees is sees


def test_the_newest_picture_of_a_conversation() -> None:
    def said(*parts: Any) -> Message:
        return Message(role="user", parts=parts)

    one, two = PicturePart(b"1"), PicturePart(b"2")
    assert newest_picture([]) is None
    assert newest_picture([said(TextPart("x"))]) is None
    assert newest_picture([said(one), said(two), said(TextPart("x"))]) == b"2"
    assert newest_picture([said(two, one, TextPart("x"))]) == b"1"
