import json
from typing import Any

import pytest

from compat.a1111.scripts.loopback import strengths
from tests.compat.a1111.test_routes import API, House, run
from tests.compat.a1111.test_routes_scripts import PICTURE
from tests.support.fake_images import pictures
from tests.support.fake_service import answer, image_card, text_card


@pytest.mark.parametrize(
    ("curve", "found"),
    [
        ("Linear", [0.4, 0.6, 0.8]),
        ("Aggressive", [0.4, 0.682843, 0.8]),
        ("Lazy", [0.4, 0.517157, 0.8]),
    ],
)
def test_strengths_move_from_first_to_last(curve: str, found: list[float]) -> None:
    assert strengths(0.4, 0.8, 3, curve) == pytest.approx(found, abs=1e-6)


def test_one_loop_has_the_requests_own() -> None:
    assert strengths(0.4, 0.8, 1, "Linear") == [0.4]


def loops(**more: Any) -> dict[str, Any]:
    given = {"init_images": [PICTURE], "prompt": "a cat", "seed": 5, "script_name": "Loopback"}
    return given | {"script_args": [2, 0.5, "Linear", "CLIP"]} | more


def test_what_pictures_show_is_put_behind_the_prompt() -> None:
    async def test(house: House) -> None:
        for words in ("a wall", "a dog"):
            house.service.script(*answer(words))
            house.service.script(*pictures())
        told = await house.json(f"{API}/img2img", loops(n_iter=1))
        texts = json.loads(told["info"])["infotexts"]
        assert [text.split("\n")[0] for text in texts[-2:]] == ["a cat, a wall", "a cat, a dog"]

    run(test, image_card(), text_card("seer"), caption_model="seer")


def test_without_a_model_that_says_so_nothing_is_made() -> None:
    async def test(house: House) -> None:
        assert (await house.ask(f"{API}/img2img", loops())).status == 501
        assert house.service.submissions == []

    run(test)
