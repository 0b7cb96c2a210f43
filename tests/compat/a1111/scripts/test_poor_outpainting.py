from typing import Any

import pytest

from compat.a1111.scripts.poor_outpainting import open_tiles, starts
from server.core.image import ImageFinished, ImageRequest, ImageStarted, Size
from server.core.pixels import FrameRequest, JoinRequest, SplitRequest, UpscaleRequest
from server.engines.image.upscaling.tiles import layout
from tests.compat.a1111.test_routes import API, House, run
from tests.compat.a1111.test_routes_scripts import PICTURE, works
from tests.support.fake_images import pictures, ready


@pytest.mark.parametrize(("side", "tile", "overlap"), [(640, 512, 128), (1000, 512, 64), (512, 512, 8), (300, 512, 8)])
def test_tiles_begin_where_the_worker_cuts_them(side: int, tile: int, overlap: int) -> None:
    assert tuple(starts(side, tile, overlap)) == layout((side, side), (tile, tile), overlap).xs


def test_tiles_without_room_in_them_are_left_alone() -> None:
    room = {"left": 64, "right": 0, "up": 0, "down": 0}
    assert open_tiles(Size(256, 128), room, Size(128, 128), 64) == [True, False, False]  # type: ignore[arg-type]
    room["down"] = 8
    assert open_tiles(Size(256, 128), room, Size(128, 128), 64) == [True] * 3  # type: ignore[arg-type]


def fields(**more: Any) -> dict[str, Any]:
    return {
        "init_images": [PICTURE],
        "width": 64,
        "height": 64,
        "seed": 5,
        "script_name": "Poor man's outpainting",
        "script_args": [8, 3, 2, ["left"]],
    } | more


def test_tiles_are_painted_and_joined() -> None:
    async def test(house: House) -> None:
        house.service.script(*pictures())
        for files in (3, 1, 1, 1):  # the frame, then the tiles of its three pictures
            events = (ready(7 if files == 1 else k) for k in range(files))
            house.service.script(ImageStarted(passes=1, steps=1), *events, ImageFinished(reason="complete"))
        house.service.script(*pictures())
        answer = await house.json(f"{API}/img2img", fields())
        plain, frame, *splits, paint, join = works(house)
        assert isinstance(plain, UpscaleRequest)
        assert isinstance(frame, FrameRequest)
        assert (frame.left, frame.right, frame.up, frame.down, frame.blur) == (63, 0, 0, 0, 3)
        assert [type(one) for one in splits] == [SplitRequest] * 3
        assert [one.picture for one in splits] == [ready(k).png for k in range(3)]
        assert isinstance(paint, ImageRequest)
        assert paint.init is not None
        inpaint = paint.init.inpaint
        assert inpaint is not None
        assert (inpaint.content, inpaint.blur_x, inpaint.only_masked) == ("noise", 6, False)
        assert inpaint.latent_mask == ready(7).png
        assert isinstance(join, JoinRequest)
        assert join.pictures == (ready(0).png,)
        assert len(answer["images"]) == 1

    run(test)


@pytest.mark.parametrize("args", [[64], [0], [8, -1], [8, 3, 4], [8, 3, "some"], [8, 3, 0, ["x"]]])
def test_mistakes(args: list[Any]) -> None:
    async def test(house: House) -> None:
        assert (await house.ask(f"{API}/img2img", fields(script_args=args))).status == 422

    run(test)
