import base64
import json
from typing import Any

import msgspec
import pytest

from server.core.errors import BadImage
from server.core.image import ImageFinished, ImageRequest, ImageStarted
from server.core.models import ModelKind
from server.core.pixels import MapRequest, PoseRequest
from tests.compat.a1111.asked import part
from tests.compat.a1111.test_routes import API, House, run
from tests.support.fake_images import pictures, ready, tiny_png
from tests.support.fake_service import image_card

PICTURE = base64.b64encode(tiny_png()).decode()
CONTROL = part("canny.safetensors", ModelKind.CONTROLNET, short_hashes=("0123abcd",))
CARDS = (image_card("paint"), CONTROL)
UNIT = {"enabled": True, "model": "canny", "image": PICTURE}


def scripts(*units: Any) -> dict[str, Any]:
    return {"alwayson_scripts": {"controlnet": {"args": list(units)}}}


def test_what_clients_ask_first() -> None:
    async def test(house: House) -> None:
        assert await house.json("/controlnet/version") == {"version": 3}
        assert await house.json("/controlnet/model_list?update=true") == {"model_list": ["canny [0123abcd]"]}
        assert house.service.shelf.scans == 1
        assert (await house.json("/controlnet/model_list"))["model_list"]
        modules = await house.json("/controlnet/module_list")
        assert list(modules) == ["module_list", "module_detail"]
        assert modules["module_list"][0] == "none"
        assert set(modules["module_detail"]["canny"]) == {"model_free", "sliders"}
        assert set(modules["module_detail"]["canny"]["sliders"][0]) == {"name", "value", "min", "max", "step"}
        assert "depth_midas" in (await house.json("/controlnet/module_list?alias_names=true"))["module_list"]
        types = (await house.json("/controlnet/control_types"))["control_types"]
        assert set(types["Canny"]) == {"module_list", "model_list", "default_option", "default_model"}
        assert await house.json("/controlnet/settings") == {"control_net_unit_count": 3}
        await house.ask(f"{API}/options", {"control_net_unit_count": 5})
        assert await house.json("/controlnet/settings") == {"control_net_unit_count": 5}
        assert "controlnet" in (await house.json(f"{API}/scripts"))["txt2img"]

    run(test, *CARDS)


def test_pictures_with_units_bring_their_maps() -> None:
    async def test(house: House) -> None:
        finished = ImageFinished(reason="complete", maps=(tiny_png(9),))
        house.service.script(*pictures(2)[:-1], finished)
        answer = await house.json(f"{API}/txt2img", {"n_iter": 2, **scripts(UNIT)})
        assert len(answer["images"]) == 3
        assert base64.b64decode(answer["images"][-1]) == tiny_png(9), "a map has no infotext"
        info = json.loads(answer["info"])
        assert len(info["infotexts"]) == 2
        assert 'ControlNet 0: "Module: none, Model: canny [0123abcd], Weight: 1.0' in info["infotexts"][0]
        assert "ControlNet 0" in info["extra_generation_params"]
        work = house.service.last
        assert isinstance(work, ImageRequest)
        assert work.control[0].name == "canny"
        house.service.script(*pictures(1)[:-1], finished)
        assert (await house.json(f"{API}/txt2img", {"send_images": False, **scripts(UNIT)}))["images"] == []

    run(test, *CARDS)


@pytest.mark.parametrize(
    "unit",
    [
        UNIT | {"model": "nope"},
        UNIT | {"module": "openpose"},
        UNIT | {"image": "no"},
        UNIT | {"image": {"image": 3}},
        UNIT | {"weight": []},
        UNIT | {"weight": 3},
        UNIT | {"guidance": 0.5, "guidance_end": 0.5},
        7,
    ],
)
def test_units_that_cannot_act_are_refused(unit: Any) -> None:
    async def test(house: House) -> None:
        for path, more in (("txt2img", {}), ("img2img", {"init_images": [PICTURE]})):
            exchange = await house.ask(f"{API}/{path}", more | scripts(unit))
            assert exchange.status == 422
            assert json.loads(exchange.body)["detail"]
        assert not house.service.submissions

    run(test, *CARDS)


def test_a_picture_that_turns_out_to_be_none() -> None:
    async def test(house: House) -> None:
        house.service.script(BadImage("this is no picture that can be read", param="control", reason="unreadable"))
        exchange = await house.ask(f"{API}/txt2img", scripts(UNIT))
        assert exchange.status == 422

    run(test, *CARDS)


def maps(*files: bytes) -> list[Any]:
    made = [msgspec.structs.replace(ready(index), png=file) for index, file in enumerate(files)]
    return [ImageStarted(passes=1, steps=1), *reversed(made), ImageFinished(reason="complete")]


@pytest.mark.parametrize("field", ["controlnet_input_images", "controlnet_images"])
def test_maps_alone(field: str) -> None:
    async def test(house: House) -> None:
        house.service.script(*maps(b"one", b"two"))
        body = {"controlnet_module": "canny", field: [PICTURE, PICTURE], "controlnet_threshold_a": 30.0}
        answer = await house.json("/controlnet/detect", body)
        assert answer == {"info": "Success", "images": [base64.b64encode(one).decode() for one in (b"one", b"two")]}
        work = house.service.last
        assert isinstance(work, MapRequest)
        assert work.pictures == (tiny_png(),) * 2
        asked = work.preprocessing
        assert (asked.module, asked.resolution, asked.threshold_a, asked.threshold_b) == ("canny", 512, 30, 200)

    run(test, *CARDS)


def test_maps_with_masks() -> None:
    async def test(house: House) -> None:
        house.service.script(*maps(b"one"))
        body = {"controlnet_module": "inpaint_global_harmonious", "controlnet_input_images": [PICTURE]}
        await house.json("/controlnet/detect", body | {"controlnet_masks": [PICTURE]})
        work = house.service.last
        assert isinstance(work, MapRequest)
        assert work.masks == (tiny_png(),)
        assert work.preprocessing.module == "inpaint"

    run(test, *CARDS)


@pytest.mark.parametrize(
    "body, words",
    [
        ({"controlnet_module": "nope"}, "Module not available"),
        (
            {"controlnet_module": "hed"},
            "Module not available: its network is not there: put ControlNetHED.pth into models/annotators",
        ),
        (
            {"controlnet_module": "depth_leres"},
            "Module not available: it needs a neural network that this server does not have",
        ),
        ({"controlnet_module": "ip-adapter-auto"}, "Module not supported"),
        ({"controlnet_module": "canny"}, "No image selected"),
        (
            {"controlnet_module": "inpaint_only", "controlnet_input_images": [PICTURE]},
            "Preprocessor inpaint_only requires `controlnet_masks` param.",
        ),
        ({"controlnet_input_images": ["no"]}, "Invalid encoded image"),
        ({"controlnet_input_images": [7]}, "Invalid encoded image"),
        ({"controlnet_input_images": ["http://127.0.0.1/x"]}, "Request to local resource not allowed"),
    ],
)
def test_maps_that_cannot_be(body: dict[str, Any], words: str) -> None:
    async def test(house: House) -> None:
        exchange = await house.ask("/controlnet/detect", body)
        assert exchange.status == 422
        assert json.loads(exchange.body)["detail"] == words

    run(test, *CARDS)


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"no", b'{"controlnet_input_images": 3}', b'{"controlnet_threshold_a": "x"}']
)
def test_bodies_that_cannot_be_read(raw: bytes) -> None:
    async def test(house: House) -> None:
        assert (await house.ask("/controlnet/detect", raw=raw, method="POST")).status == 422

    run(test, *CARDS)


def test_poses() -> None:
    async def test(house: House) -> None:
        pose = {"people": [], "canvas_width": 8, "canvas_height": 8}
        house.service.script(*maps(b"one"))
        answer = await house.json("/controlnet/render_openpose_json", [pose])
        assert answer == {"info": "Success", "images": [base64.b64encode(b"one").decode()]}
        work = house.service.last
        assert isinstance(work, PoseRequest)
        assert [json.loads(one) for one in work.poses] == [pose]
        assert await house.json("/controlnet/render_openpose_json", []) == {"info": "No pose data detected."}
        for raw in (b"", b"{}", b"[1", b"[" * 100_000, b"\xff"):
            assert (await house.ask("/controlnet/render_openpose_json", raw=raw, method="POST")).status == 422

    run(test, *CARDS)
