import asyncio
import base64
import json
from typing import Any

import pytest

from compat.a1111.interrogate import QUESTIONS, tags
from compat.a1111.options import OptionValues
from server.core.text import ChatRequest, PicturePart, ReasoningDelta, TextPart
from tests.compat.a1111.test_routes import API, House, run
from tests.support.fake_images import tiny_png
from tests.support.fake_service import answer, image_card, text_card
from tests.support.shared import golden, needs_shared

PICTURE = base64.b64encode(tiny_png()).decode()
CARDS = (image_card(), text_card("seer"))


def test_a_chat_model_says_what_a_picture_shows() -> None:
    async def test(house: House) -> None:
        first, *others = answer("a cat\n", "  on a wall ")
        house.service.script(first, ReasoningDelta(choice=0, text="hm"), *others)
        told = await house.json(f"{API}/interrogate", {"image": PICTURE})
        assert told == {"caption": "a cat on a wall"}
        work = house.service.last
        assert isinstance(work, ChatRequest)
        assert work.model == "seer"
        assert work.messages[0].parts == (PicturePart(tiny_png(), "image"), TextPart(QUESTIONS["clip"]))

    run(test, *CARDS, caption_model="seer")


def test_tags() -> None:
    async def test(house: House) -> None:
        house.service.script(*answer("Long hair, 1girl, smile (open)., 1girl"))
        told = await house.json(f"{API}/interrogate", {"image": PICTURE, "model": "deepdanbooru"})
        assert told == {"caption": r"1girl, long hair, smile \(open\)"}

    run(test, *CARDS, caption_model="seer")


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({}, r"a b, c \(d\)"),
        ({"deepbooru_use_spaces": False, "deepbooru_escape": False}, "a_b, c_(d)"),
        ({"deepbooru_sort_alpha": False, "deepbooru_filter_tags": "a_b"}, r"c \(d\)"),
        ({"deepbooru_sort_alpha": False, "deepbooru_escape": False}, "c (d), a b"),
    ],
)
def test_options_of_tags(options: dict[str, Any], found: str) -> None:
    assert tags("- C (d)\n- a_b\n- \n", OptionValues(options)) == found


def test_without_a_model_it_is_refused_in_words_and_mistakes_come_first() -> None:
    async def test(house: House) -> None:
        for model in ("clip", "deepdanbooru"):
            exchange = await house.ask(f"{API}/interrogate", {"image": PICTURE, "model": model})
            assert exchange.status == 501
            body = json.loads(exchange.body)
            assert "caption_model" in body["detail"]
            assert set(body) == {"error", "detail", "body", "errors"}
        assert (await house.ask(f"{API}/interrogate", {"image": None})).status == 422
        assert (await house.ask(f"{API}/interrogate", {"image": "http://127.0.0.1/x.png"})).status == 422
        assert house.service.submissions == []

    run(test)


@needs_shared
@pytest.mark.golden
@pytest.mark.parametrize("name", ["interrogate-bad-model", "interrogate-no-image"])
def test_recorded_mistakes(name: str) -> None:
    case = next(one for one in golden("a1111-get/post-edge-cases.json") if one["name"] == name)
    body = dict(case["request"])
    if "image" in body:
        body["image"] = PICTURE

    async def inside() -> None:
        exchange = await House().ask(f"{API}/interrogate", body)
        assert json.loads(exchange.body) == case["response"]
        assert exchange.status == (404 if case["status"] == 404 else 422)

    asyncio.run(inside())
