import base64
from typing import Any

import msgspec
import pytest
from PIL import Image

from compat.a1111.scripts.outpainting import SIDES, rooms
from server.core.image import ImageFinished, ImageReady, ImageRequest, ImageStarted, Size
from server.core.jobs import Event
from server.core.pixels import GridRequest, GrowRequest, LayRequest, UpscaleRequest
from server.http.png import read_text
from tests.compat.a1111.test_routes import API, House, run
from tests.compat.a1111.test_routes_scripts import PICTURE, works
from tests.support.fake_images import pictures, ready
from tests.support.picture_files import file_of


@pytest.mark.parametrize(
    ("size", "directions", "found"),
    [
        ((500, 500), ["left"], (140, 0, 0, 0)),
        ((500, 500), ["left", "right"], (134, 134, 0, 0)),
        ((512, 512), ["right", "down"], (0, 128, 0, 128)),
        ((512, 300), ["up", "down"], (0, 0, 138, 138)),
        ((512, 300), [], (0, 0, 0, 0)),
    ],
)
def test_rooms_reach_whole_cells(size: tuple[int, int], directions: list[str], found: tuple[int, ...]) -> None:
    grown = rooms(*size, 128, directions)
    assert tuple(grown[side] for side in SIDES) == found
    for length, pair in ((size[0], found[:2]), (size[1], found[2:])):
        assert not sum(pair) or (length + sum(pair)) % 64 == 0


def piece(number: int) -> ImageReady:
    """Return one of the pictures that room is: no two are alike."""
    return msgspec.structs.replace(ready(number), png=file_of(Image.new("RGB", (64, 64), (number, 0, 0))))


def room() -> list[Event]:
    return [ImageStarted(passes=1, steps=1), *(piece(k) for k in range(4)), ImageFinished(reason="complete")]


def fields(**more: Any) -> dict[str, Any]:
    return {
        "init_images": [PICTURE],
        "width": 64,
        "height": 64,
        "seed": 5,
        "script_name": "Outpainting mk2",
        "script_args": ["", 8, 2, ["left", "down"]],
    } | more


def test_each_side_is_grown_painted_and_laid_back() -> None:
    async def test(house: House) -> None:
        house.service.script(*pictures())  # the picture as PNG
        for _ in range(2):
            house.service.script(*room())
            house.service.script(*pictures())
            house.service.script(*pictures())
        answer = await house.json(f"{API}/img2img", fields())
        plain, *rest = works(house)
        assert isinstance(plain, UpscaleRequest)
        assert (plain.kernel, plain.factor) == ("none", 1.0)
        left, down = rest[:3], rest[3:6]
        for (grow, paint, lay), side in ((left, "left"), (down, "down")):
            assert isinstance(grow, GrowRequest)
            assert (grow.side, grow.pixels, grow.blur, grow.detail) == (side, 63, 2, 1.0)
            assert isinstance(paint, ImageRequest)
            assert paint.init is not None
            inpaint = paint.init.inpaint
            assert inpaint is not None
            assert (inpaint.content, inpaint.only_masked) == ("original", False)
            assert (inpaint.blur_x, inpaint.blur_y) == ((8, 0) if side == "left" else (0, 8))
            assert (inpaint.mask, inpaint.latent_mask) == (piece(2).png, piece(3).png)
            assert paint.init.images == (piece(1).png,)
            assert paint.seeds.first == 5
            assert isinstance(lay, LayRequest)
            assert lay.under == piece(0).png
        assert (left[2].size, down[2].size) == (Size(64, 1), Size(1, 64))
        assert len(answer["images"]) == 1
        assert "Steps: 50" in read_text(base64.b64decode(answer["images"][0]))["parameters"]

    run(test)


def test_a_batch_is_painted_at_once_and_shown_with_its_grid() -> None:
    async def test(house: House) -> None:
        house.service.script(*pictures())
        house.service.script(*room())
        house.service.script(*room())
        house.service.script(*pictures(2))
        answer = await house.json(f"{API}/img2img", fields(batch_size=2, script_args=["", 8, 2, ["up"]]))
        kinds = [type(work) for work in works(house)]
        assert kinds == [UpscaleRequest, GrowRequest, GrowRequest, ImageRequest, LayRequest, LayRequest, GridRequest]
        assert works(house)[3].batch_size == 2
        assert len(answer["images"]) == 3

    run(test)


def test_mistakes() -> None:
    async def test(house: House) -> None:
        for args in (["", 0], ["", 8, -1], ["", 8, 2, ["sideways"]], ["", 8, 2, "left"], ["", 8, 2, ["left"], 99]):
            assert (await house.ask(f"{API}/img2img", fields(script_args=args))).status == 422, args
        assert house.service.submissions == []
        assert (await house.ask(f"{API}/img2img", fields(init_images=None))).status == 404
        assert (await house.ask(f"{API}/txt2img", fields())).status == 422

    run(test)
