"""webuiapi's ControlNet units and routes against a running server with real torch and a tiny ControlNet."""

import json
import urllib.error
import urllib.request
from typing import Any

import numpy as np
import pytest
import webuiapi

from tests.support.picture_files import disc, noise_image
from tests.support.running import Running
from tests.support.tiny_models import needs_torch

pytestmark = [pytest.mark.torch, needs_torch]

SIDE = 64
NAME = "control_v11p_sd15_canny"
LOOKING = "ip-adapter_sd15"
MAP = noise_image(SIDE, SIDE, seed=5)


@pytest.fixture
def api(server: Running) -> webuiapi.WebUIApi:
    return webuiapi.WebUIApi(host="127.0.0.1", port=int(server.url.rpartition(":")[2]), sampler="Euler a", steps=4)


def unit(**fields: Any) -> webuiapi.ControlNetUnit:
    return webuiapi.ControlNetUnit(**{"image": MAP, "model": NAME} | fields)


def paint(api: webuiapi.WebUIApi, *units: webuiapi.ControlNetUnit, **fields: Any) -> webuiapi.WebUIApiResult:
    return api.txt2img(prompt="a boat", seed=3, width=SIDE, height=SIDE, controlnet_units=list(units), **fields)


def refusal(api: webuiapi.WebUIApi, *units: webuiapi.ControlNetUnit) -> dict[str, Any]:
    """Return the body of a 422."""
    with pytest.raises(RuntimeError) as caught:
        paint(api, *units)
    status, body = caught.value.args
    assert status == 422
    told: dict[str, Any] = json.loads(body)
    return told


def test_the_lists(api: webuiapi.WebUIApi) -> None:
    assert api.controlnet_version() == 3
    names = api.controlnet_model_list()
    assert [name.split(" [")[0] for name in names] == [NAME, "for_sd2", LOOKING]
    assert all(len(name.split(" [")[1]) == 9 for name in names)
    assert {"none", "canny", "tile_resample", "inpaint_only"} <= set(api.controlnet_module_list())
    assert {"controlnet", "controlnet m2m"} <= set(api.get_scripts()["txt2img"])
    assert api.has_controlnet
    with pytest.raises(RuntimeError, match="is not offered"):
        api.txt2img(prompt="a boat", script_name="controlnet m2m")


def test_a_unit_acts_and_brings_its_map(api: webuiapi.WebUIApi) -> None:
    plain, steered, again = paint(api), paint(api, unit()), paint(api, unit())
    assert [len(made.images) for made in (plain, steered)] == [1, 2]
    assert steered.image.tobytes() == again.image.tobytes() != plain.image.tobytes()
    assert steered.images[1].tobytes() == MAP.tobytes()
    assert f'ControlNet 0: "Module: none, Model: {NAME} [' in steered.info["infotexts"][0]
    assert len(steered.info["infotexts"]) == 1


def test_weight_nought_and_units_that_are_off_change_nothing(api: webuiapi.WebUIApi) -> None:
    plain = paint(api).image.tobytes()
    assert paint(api, unit(weight=0)).image.tobytes() == plain
    off = paint(api, unit(enabled=False))
    assert (len(off.images), off.image.tobytes()) == (1, plain)


@pytest.mark.parametrize(
    "fields",
    [
        {"module": "canny", "threshold_a": 100, "threshold_b": 200, "processor_res": 128},
        {"control_mode": 1},
        {"control_mode": 2, "resize_mode": "Just Resize"},
        {"guidance_start": 0.5},
        {"pixel_perfect": True, "module": "lineart_standard", "weight": 0.6},
        {"module": "inpaint_only", "mask": disc(SIDE)},
    ],
)
def test_every_field_changes_the_picture(api: webuiapi.WebUIApi, fields: dict[str, Any]) -> None:
    made, usual = paint(api, unit(**fields)), paint(api, unit())
    assert made.image.size == (SIDE, SIDE)
    assert np.asarray(made.image).tobytes() != np.asarray(usual.image).tobytes()


def test_an_ip_adapter(api: webuiapi.WebUIApi, server: Running) -> None:
    with urllib.request.urlopen(f"{server.url}/controlnet/module_list") as reply:
        assert "unavailable" not in json.load(reply)["module_detail"]["ip-adapter-auto"]
    looking = unit(model=LOOKING, module="ip-adapter-auto")
    plain, made, other = paint(api), paint(api, looking), paint(api, unit(model=LOOKING, module="ip-adapter_clip_h"))
    assert len(made.images) == 1, "there is no map"
    assert made.image.tobytes() != plain.image.tobytes()
    assert made.image.tobytes() == other.image.tobytes(), "the adapter knows its encoder"
    assert f"Model: {LOOKING}" in made.info["infotexts"][0]
    assert "follows a map" in refusal(api, unit(module="ip-adapter-auto"))["detail"][0]["msg"]


def test_two_units_and_hires_fix(api: webuiapi.WebUIApi) -> None:
    made = paint(api, unit(weight=0.5), unit(weight=0.5, hr_option="Low res only"), enable_hr=True, hr_scale=2)
    assert [image.size for image in made.images] == [(128, 128), (128, 128), (64, 64), (128, 128), (64, 64)]


def test_a_picture_from_a_picture_lends_itself(api: webuiapi.WebUIApi) -> None:
    made = api.img2img(images=[MAP], prompt="a boat", width=SIDE, height=SIDE, controlnet_units=[unit(image=None)])
    assert [image.size for image in made.images] == [(SIDE, SIDE)] * 2
    assert made.images[1].tobytes() == MAP.tobytes()


def test_a_model_for_another_kind_of_checkpoint(api: webuiapi.WebUIApi) -> None:
    (problem,) = refusal(api, unit(model="for_sd2"))["detail"]
    assert "'for_sd2' is for another kind of checkpoint" in problem["msg"]


def test_units_that_cannot_act(api: webuiapi.WebUIApi) -> None:
    assert "not found in supported models" in refusal(api, unit(model="nope"))["detail"][0]["msg"]
    assert "needs a neural network" in refusal(api, unit(module="openpose_full"))["detail"]
    assert "needs a picture" in refusal(api, unit(image=None))["detail"][0]["msg"]
    assert paint(api).image.size == (SIDE, SIDE)


def test_detect(api: webuiapi.WebUIApi) -> None:
    made = api.controlnet_detect(images=[MAP], module="canny", processor_res=128, threshold_a=100, threshold_b=200)
    assert made.info == "Success"
    assert made.image.size == (128, 128)
    assert set(np.unique(np.asarray(made.image))) <= {0, 255}


@pytest.mark.parametrize("module", ["depth_midas", "softedge_hed"])
def test_maps_by_networks(api: webuiapi.WebUIApi, server: Running, module: str) -> None:
    with urllib.request.urlopen(f"{server.url}/controlnet/module_list?alias_names=true") as reply:
        detail = json.load(reply)["module_detail"]
    assert "unavailable" not in detail[module]
    assert "models/annotators" in detail["lineart_realistic"]["unavailable"]
    made = api.controlnet_detect(images=[MAP], module=module, processor_res=128)
    assert made.image.size == (128, 128)
    assert len(np.unique(np.asarray(made.image))) > 2
    again = api.controlnet_detect(images=[MAP], module=module, processor_res=128)
    assert again.image.tobytes() == made.image.tobytes()
    # the same map steers a picture, in the checkpoint's own process
    steered = paint(api, unit(module=module, processor_res=128))
    by_hand = paint(api, unit(image=made.image))
    assert steered.image.tobytes() == by_hand.image.tobytes()
    assert steered.images[1].size == (SIDE, SIDE)


def test_networks_that_are_not_there(api: webuiapi.WebUIApi) -> None:
    assert "sk_model.pth" in refusal(api, unit(module="lineart_realistic"))["detail"]
    with pytest.raises(RuntimeError, match="body_pose_model"):
        api.controlnet_detect(images=[MAP], module="openpose")


def test_poses(server: Running) -> None:
    pose = {
        "people": [{"pose_keypoints_2d": [10, 10, 1, 20, 20, 1] + [0] * 48}],
        "canvas_width": 64,
        "canvas_height": 48,
    }
    address = f"{server.url}/controlnet/render_openpose_json"
    with urllib.request.urlopen(urllib.request.Request(address, json.dumps([pose]).encode())) as reply:
        made = json.load(reply)
    assert made["info"] == "Success"
    assert len(made["images"]) == 1
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(urllib.request.Request(address, json.dumps([{"people": 1}]).encode()))
    assert caught.value.code == 422
    caught.value.close()
