import asyncio
import base64
import json
from typing import Any

import msgspec
import pytest

from compat.a1111 import lenient, postprocess
from compat.a1111.lenient import Unreadable
from compat.a1111.options import OptionValues
from compat.a1111.postprocess_wire import SingleExtras
from compat.a1111.refusals import Refused
from compat.a1111.upscalers import upscalers
from server.core.errors import Unsupported
from server.core.image import ImageStarted, Size
from server.core.models import ModelKind
from server.core.pixels import BUILT_IN
from server.http.png import add_text, read_text
from tests.compat.a1111.asked import part
from tests.compat.a1111.test_routes import API, House, run
from tests.support.fake_images import pictures, tiny_png
from tests.support.shared import golden, needs_shared

KNOWN = upscalers((part("ESRGAN/4x-big.safetensors", ModelKind.UPSCALER),))


def single(**fields: Any) -> SingleExtras:
    read = lenient.read(json.dumps(fields).encode(), SingleExtras)
    return msgspec.convert(read, SingleExtras)


def chosen(**fields: Any) -> postprocess.Chosen:
    return postprocess.chosen(single(**fields), KNOWN, OptionValues())


def test_every_field_of_the_wire_has_a_fate() -> None:
    fields = (*SingleExtras.__struct_fields__, "imageList")
    assert tuple(postprocess.FIELDS) == fields


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"upscaler_1": "Nearest"}, "Postprocess upscale by: 2, Postprocess upscaler: Nearest"),
        (
            {"upscaler_1": "Nearest", "upscaling_resize": 2},
            "Postprocess upscale by: 2.0, Postprocess upscaler: Nearest",
        ),
        (
            {"upscaler_1": "Lanczos", "upscaling_resize": 1.5},
            "Postprocess upscale by: 1.5, Postprocess upscaler: Lanczos",
        ),
        (
            {"upscaler_1": "Lanczos", "resize_mode": 1, "upscaling_resize_w": 64, "upscaling_resize_h": 80},
            "Postprocess upscale to: 64x80, Postprocess crop to: 64x80, Postprocess upscaler: Lanczos",
        ),
        (
            {"upscaler_1": "Lanczos", "resize_mode": 1, "upscaling_crop": False},
            "Postprocess upscale to: 512x512, Postprocess upscaler: Lanczos",
        ),
        (
            {"upscaler_1": "4x-big", "upscaler_2": "Lanczos", "extras_upscaler_2_visibility": 0.3},
            "Postprocess upscale by: 2, Postprocess upscaler: 4x-big, Postprocess upscaler 2: Lanczos",
        ),
        (
            {"upscaler_1": "4x-big", "upscaler_2": "Lanczos"},
            "Postprocess upscale by: 2, Postprocess upscaler: 4x-big",
        ),
        ({"upscaler_2": "Lanczos", "extras_upscaler_2_visibility": 1}, ""),
    ],
)
def test_what_is_told(fields: dict[str, Any], text: str) -> None:
    assert postprocess.told(chosen(**fields)) == text


def test_jobs() -> None:
    choice = chosen(
        upscaler_1="4x-big",
        upscaler_2="Lanczos",
        extras_upscaler_2_visibility=0.3,
        resize_mode=1,
        upscaling_resize_w=64,
        upscaling_resize_h=80,
    )
    first = postprocess.first_work(choice, b"in")
    assert (first.model, first.size, first.crop, first.tile, first.overlap) == ("4x-big", Size(64, 80), True, 192, 8)
    second = postprocess.second_work(choice, b"in", b"out")
    assert second is not None
    assert (second.model, second.kernel, second.pictures) == (BUILT_IN, "lanczos", (b"in",))
    assert (second.under, second.visibility) == ((b"out",), 0.3)
    assert choice.jobs == 2


def test_no_upscaler_writes_the_picture_anew() -> None:
    choice = chosen(upscaling_resize=3)
    work = postprocess.first_work(choice, b"in")
    assert (work.model, work.kernel) == (BUILT_IN, "none")
    assert postprocess.second_work(choice, b"in", b"out") is None


@pytest.mark.parametrize(
    ("fields", "loc", "kind", "limit"),
    [
        ({"resize_mode": 2}, "resize_mode", "value_error.const", None),
        ({"upscaling_resize": 0}, "upscaling_resize", "value_error.number.not_gt", 0),
        ({"upscaling_resize_w": 0}, "upscaling_resize_w", "value_error.number.not_ge", 1),
        ({"extras_upscaler_2_visibility": 1.5}, "extras_upscaler_2_visibility", "value_error.number.not_le", 1),
        ({"gfpgan_visibility": -1}, "gfpgan_visibility", "value_error.number.not_ge", 0),
    ],
)
def test_bounds_in_the_words_of_the_original(fields: dict[str, Any], loc: str, kind: str, limit: int | None) -> None:
    with pytest.raises(Unreadable) as caught:
        chosen(**fields)
    (problem,) = caught.value.problems
    assert (problem.loc, problem.type) == (["body", loc], kind)
    assert limit is None or (problem.ctx or {})["limit_value"] == limit


def test_unknown_upscalers() -> None:
    with pytest.raises(Refused, match="could not find upscaler named nope"):
        chosen(upscaler_1="nope")
    with pytest.raises(Refused, match="could not find upscaler named nope"):
        chosen(upscaler_1="Lanczos", upscaler_2="nope")
    assert chosen(upscaler_2="nope").first.name == "None", "the second does not matter without the first"


@pytest.mark.parametrize("field", ["gfpgan_visibility", "codeformer_visibility"])
def test_faces_are_refused_when_they_are_asked_for(field: str) -> None:
    with pytest.raises(Unsupported) as caught:
        chosen(**{field: 0.5})
    assert caught.value.fact("param") == field
    assert chosen(codeformer_weight=0.5).first.name == "None"


def encoded(png: bytes | None = None) -> str:
    return base64.b64encode(png or tiny_png()).decode()


def test_a_single_picture() -> None:
    async def test(house: House) -> None:
        body = {"image": "data:image/png;base64," + encoded(), "upscaler_1": "Lanczos", "upscaling_resize": "2"}
        answer = await house.json(f"{API}/extra-single-image", body)
        assert list(answer) == ["html_info", "image"]
        assert answer["html_info"] == "<p>Postprocess upscale by: 2.0, Postprocess upscaler: Lanczos</p>"
        texts = read_text(base64.b64decode(answer["image"]))
        assert texts == {"postprocessing": "Postprocess upscale by: 2.0, Postprocess upscaler: Lanczos"}
        assert [submission.work.model for submission in house.service.submissions] == [BUILT_IN]

    run(test)


def test_texts_of_the_picture_stay() -> None:
    async def test(house: House) -> None:
        picture = add_text(tiny_png(), {"parameters": "Steps: 1", "note": "ü"})
        answer = await house.json(f"{API}/extra-single-image", {"image": encoded(picture)})
        texts = read_text(base64.b64decode(answer["image"]))
        assert texts == {"parameters": "Steps: 1", "note": "ü", "postprocessing": ""}
        assert answer["html_info"] == "<p></p>"

    run(test)


def test_a_batch() -> None:
    async def test(house: House) -> None:
        listed = [{"data": encoded(), "name": "a.png"}, {"data": encoded(), "name": "b.png"}]
        answer = await house.json(f"{API}/extra-batch-images", {"imageList": listed, "upscaler_1": "Nearest"})
        assert list(answer) == ["html_info", "images"]
        assert len(answer["images"]) == 2
        missing = await house.ask(f"{API}/extra-batch-images", {"imageList": [{"data": encoded()}]})
        assert missing.status == 422
        (problem,) = json.loads(missing.body)["detail"]
        assert problem == {
            "loc": ["body", "imageList", 0, "name"],
            "msg": "field required",
            "type": "value_error.missing",
        }

    run(test)


@needs_shared
@pytest.mark.golden
@pytest.mark.parametrize("name", ["extra-bad-upscaler", "extra-empty"])
def test_recorded_mistakes(name: str) -> None:
    case = next(one for one in golden("a1111-get/post-edge-cases.json") if one["name"] == name)
    request = case["request"] | ({"image": encoded()} if "image" in case["request"] else {})

    async def test(house: House) -> None:
        exchange = await house.ask(case["route"], request)
        assert exchange.status == 422
        assert json.loads(exchange.body) == case["response"]

    run(test)


@needs_shared
@pytest.mark.golden
def test_the_recorded_batch() -> None:
    case = next(one for one in golden("a1111-get/post-edge-cases.json") if one["name"] == "extra-batch")
    listed = [entry | {"data": encoded()} for entry in case["request"]["imageList"]]

    async def test(house: House) -> None:
        answer = await house.json(case["route"], case["request"] | {"imageList": listed})
        assert answer["html_info"] == case["response"]["html_info"]
        assert len(answer["images"]) == len(case["response"]["images"])

    run(test)


def test_the_last_results_are_kept() -> None:
    async def test(house: House) -> None:
        body = {"image": encoded(), "upscaler_1": "Nearest"}
        made = [await house.json(f"{API}/extra-single-image", body) for _ in range(2)]
        assert made[0] == made[1]
        assert len(house.service.submissions) == 1
        await house.json(f"{API}/extra-single-image", body | {"upscaling_resize": 3})
        await house.json(f"{API}/extra-single-image", body | {"image": encoded(tiny_png(9))})
        assert len(house.service.submissions) == 3
        await house.json(f"{API}/options", {"upscaling_max_images_in_cache": 0})
        for _ in range(2):
            await house.json(f"{API}/extra-single-image", body | {"upscaling_resize": 4})
        assert len(house.service.submissions) == 5

    run(test)


def test_an_interrupted_batch_hands_over_what_is_done() -> None:
    async def test(house: House) -> None:
        house.service.script(*pictures(1, steps=1))
        waiting = asyncio.Event()
        house.service.script(ImageStarted(passes=1, steps=1), waiting)
        listed = [{"data": base64.b64encode(tiny_png(n)).decode(), "name": ""} for n in range(3)]
        asking = asyncio.create_task(
            house.json(f"{API}/extra-batch-images", {"imageList": listed, "upscaler_1": "Nearest"})
        )
        while len(house.service.submissions) < 2 or not house.service.live():
            await asyncio.sleep(0)
        told = await house.json(f"{API}/progress")
        assert (told["state"]["job"], told["state"]["job_count"], told["state"]["job_no"]) == ("extras", 3, 1)
        await house.json(f"{API}/interrupt", {})
        assert len((await asking)["images"]) == 1
        assert len(house.service.submissions) == 2

    run(test)


def test_an_interrupted_picture_is_no_picture() -> None:
    async def test(house: House) -> None:
        house.service.script(ImageStarted(passes=1, steps=1), asyncio.Event())
        body = {"image": encoded(), "upscaler_1": "Nearest"}
        asking = asyncio.create_task(house.ask(f"{API}/extra-single-image", body))
        while not house.service.live():
            await asyncio.sleep(0)
        await house.json(f"{API}/interrupt", {})
        assert (await asking).status == 409

    run(test)
