"""What Kobold Lite, text-generation-webui, LibreChat and chaiNNer send; what all of them rely on."""

import base64
import http.client
import io
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from PIL import Image

from tests.conformance.test_front_ends import A1111, BASIC_NOTHING, Caller
from tests.support.picture_files import file_of, noise_image
from tests.support.running import Running
from tests.support.tiny_models import needs_torch
from tests.support.waiting import until

pytestmark = [pytest.mark.torch, needs_torch]

SIDE = 64
SMALL = {"steps": 2, "width": SIDE, "height": SIDE}
SOON_S = 1.0
"""What chaiNNer waits for the options, also while a picture is made."""


@pytest.fixture
def client(server: Running) -> Caller:
    return Caller(server, BASIC_NOTHING)


def title_of(client: Caller, name: str) -> str:
    (title,) = [model["title"] for model in client.get(f"{A1111}/sd-models") if model["title"].startswith(name)]
    return str(title)


def size_of(text: str) -> tuple[int, int]:
    with Image.open(io.BytesIO(base64.b64decode(text))) as image:
        return image.size


def raw(server: Running, path: str, content: bytes) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)
    try:
        connection.request("POST", path, content, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_kobold_lite(client: Caller) -> None:
    """Floats for integers and foreign keys among the settings; it does not connect without `samples_format`."""
    before = client.get(f"{A1111}/options")
    assert before["samples_format"]
    settings = {
        "sd_model_checkpoint": title_of(client, "sketch"),
        "CLIP_stop_at_last_layers": 1.0,
        "sd_hypernetwork": "None",
        "ddim_discretize": "uniform",
        "eta_ancestral": 1.0,
        "a_key_of_another_program": 7,
    }
    body = SMALL | {"prompt": "a boat", "override_settings": settings, "steps": 2.0, "cfg_scale": 7, "seed": 5.0}
    made = client.post(f"{A1111}/txt2img", body)
    assert size_of(made["images"][0]) == (SIDE, SIDE)
    assert json.loads(made["info"])["sd_model_name"] == "sketch"
    sent = base64.b64encode(file_of(noise_image(SIDE, SIDE))).decode()
    again = client.post(f"{A1111}/img2img", body | {"init_images": [sent], "denoising_strength": 0.6})
    assert size_of(again["images"][0]) == (SIDE, SIDE)
    assert client.get(f"{A1111}/options") == before, "settings of a request go with it"


def test_text_generation_webui(client: Caller, server: Running) -> None:
    """Numbers as texts, an upscaler that is not there while hires is off, and the JSON text "" as a body."""
    client.post(f"{A1111}/options", {"sd_model_checkpoint": title_of(client, "paint")})
    assert raw(server, f"{A1111}/unload-checkpoint", b'""') == (200, b"{}")
    body = {name: str(value) for name, value in SMALL.items()} | {
        "prompt": "a boat",
        "seed": "-1",
        "cfg_scale": "7",
        "enable_hr": "false",
        "hr_scale": "1.0",
        "hr_upscaler": "ESRGAN_4x",
        "denoising_strength": "0.6",
        "restore_faces": "false",
        "n_iter": "1",
    }
    assert size_of(client.post(f"{A1111}/txt2img", body)["images"][0]) == (SIDE, SIDE)
    assert raw(server, f"{A1111}/reload-checkpoint", b'""') == (200, b"{}")
    assert "paint" in server.loaded()


def test_librechat(client: Caller) -> None:
    """`info` is a text of JSON with sides, seed and infotexts whose last line is that of the settings."""
    body = SMALL | {"prompt": "a boat", "negative_prompt": "rain", "cfg_scale": 4.5}
    made = client.post(f"{A1111}/txt2img", body)
    assert isinstance(made["info"], str)
    told = json.loads(made["info"])
    assert (told["width"], told["height"]) == (SIDE, SIDE)
    assert f"Seed: {told['seed']}" in told["infotexts"][0].splitlines()[-1]


@pytest.mark.parametrize(
    "joined, sampler, schedule",
    [("DPM++ 2M Karras", "DPM++ 2M", "Karras"), ("LMS Karras", "LMS", "Karras"), ("Euler a", "Euler a", "Automatic")],
)
def test_chainner_joins_sampler_and_schedule(client: Caller, joined: str, sampler: str, schedule: str) -> None:
    made = client.post(f"{A1111}/txt2img", SMALL | {"prompt": "a boat", "sampler_name": joined})
    last = json.loads(made["info"])["infotexts"][0].splitlines()[-1]
    assert f"Sampler: {sampler}, Schedule type: {schedule}" in last


@pytest.mark.parametrize("resize", range(4))
@pytest.mark.parametrize("fill", range(4))
def test_chainner_knows_all_ways_to_resize_and_fill(client: Caller, resize: int, fill: int) -> None:
    picture, mask = (base64.b64encode(file_of(noise_image(SIDE, 2 * SIDE, seed=seed))).decode() for seed in (1, 2))
    asked = {
        "init_images": [picture],
        "mask": mask,
        "resize_mode": resize,
        "inpainting_fill": fill,
        "inpaint_full_res": False,
    }
    made = client.post(f"{A1111}/img2img", SMALL | {"prompt": "a boat"} | asked)
    assert size_of(made["images"][0]) == (SIDE, SIDE)


def test_nothing_waits_for_the_running_picture(client: Caller) -> None:
    lists = ("options", "sd-models", "samplers", "upscalers", "progress?skip_current_image=false", "cmd-flags", "loras")
    with ThreadPoolExecutor(1) as pool:
        making = pool.submit(
            client.ask, "POST", f"{A1111}/txt2img", {"prompt": "a boat", "steps": 150, "width": 128, "height": 128}
        )
        until(lambda: client.get(f"{A1111}/progress")["state"]["sampling_step"] > 0)
        for name in lists:
            begun = time.perf_counter()
            client.get(f"{A1111}/{name}")
            assert time.perf_counter() - begun < SOON_S, name
        assert not making.done()
        client.post(f"{A1111}/interrupt", {})
        assert making.result()[0] == 200
    assert size_of(client.post(f"{A1111}/txt2img", SMALL | {"prompt": "b"})["images"][0]) == (SIDE, SIDE)


@pytest.mark.parametrize("route", ["skip", "refresh-checkpoints", "refresh-vae", "refresh-loras", "refresh-embeddings"])
def test_answers_without_content_are_a_null(client: Caller, route: str) -> None:
    status, headers, content = client.ask("POST", f"{A1111}/{route}")
    assert (status, content) == (200, b"null")
    assert headers["content-type"].startswith("application/json")


def test_a_connection_serves_many_requests(server: Running) -> None:
    """Clients take a connection up again after each answer, a refusal and one without a body included."""
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)
    asked: list[tuple[str, str, Any]] = [
        ("GET", f"{A1111}/options", None),
        ("POST", f"{A1111}/txt2img", {"steps": "many"}),
        ("POST", f"{A1111}/nothing-of-the-kind", {}),
        ("POST", f"{A1111}/skip", None),
        ("GET", f"{A1111}/samplers", None),
    ]
    statuses = []
    connection.connect()
    own = connection.sock
    for method, path, body in asked:
        connection.request(method, path, None if body is None else json.dumps(body))
        answer = connection.getresponse()
        answer.read()
        statuses.append(answer.status)
        assert connection.sock is own, f"closed after {path}"
    connection.close()
    assert statuses == [200, 422, 404, 200, 200]
