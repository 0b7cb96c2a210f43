"""The real `webuiapi` package against a running server with real torch."""

import base64
import io
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
import webuiapi
from PIL import Image

from tests.support.picture_files import png_of_size
from tests.support.running import Running
from tests.support.tiny_models import needs_torch, tiny_models
from tests.support.waiting import until

pytestmark = [pytest.mark.torch, needs_torch]

SIDE = 64
KEY = "open-sesame-1234"


@pytest.fixture
def api(server: Running) -> webuiapi.WebUIApi:
    return webuiapi.WebUIApi(host="127.0.0.1", port=int(server.url.rpartition(":")[2]), sampler="Euler a", steps=4)


@pytest.fixture
def painter() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def a_long_picture(pool: ThreadPoolExecutor, api: webuiapi.WebUIApi, steps: int = 150, **fields: Any) -> Future[Any]:
    return pool.submit(api.txt2img, prompt="a slow lighthouse", width=128, height=128, steps=steps, **fields)


def test_txt2img(api: webuiapi.WebUIApi) -> None:
    made = api.txt2img(
        prompt="a lighthouse at dawn", negative_prompt="fog", seed=7, width=SIDE, height=SIDE, batch_size=2, cfg_scale=5
    )
    assert [image.size for image in made.images] == [(SIDE, SIDE)] * 2
    assert made.image.format == "PNG"
    assert made.images[0].tobytes() != made.images[1].tobytes()
    info = made.info
    assert isinstance(info, dict), "info is a JSON string with an object"
    assert (info["seed"], info["all_seeds"]) == (7, [7, 8])
    assert (info["width"], info["height"], info["steps"]) == (SIDE, SIDE, 4)
    assert info["sampler_name"] == "Euler a"
    assert info["prompt"] == "a lighthouse at dawn"
    assert made.parameters["negative_prompt"] == "fog"
    for image, infotext in zip(made.images, info["infotexts"], strict=True):
        assert image.info["parameters"] == infotext
    last = info["infotexts"][1].splitlines()[-1]
    assert "Steps: 4, Sampler: Euler a" in last
    assert "Seed: 8" in last


def test_the_same_seed_gives_the_same_picture(api: webuiapi.WebUIApi) -> None:
    def paint(seed: int) -> bytes:
        image = api.txt2img(prompt="a boat", seed=seed, width=SIDE, height=SIDE).image
        return bytes(image.tobytes())

    first, again, other = paint(3), paint(3), paint(4)
    assert first == again
    assert first != other


def test_hires_fix(api: webuiapi.WebUIApi) -> None:
    made = api.txt2img(prompt="a boat", seed=3, width=SIDE, height=SIDE, enable_hr=True, hr_scale=2)
    assert made.image.size == (2 * SIDE, 2 * SIDE)
    assert "Hires upscale: 2" in made.info["infotexts"][0]


def test_the_lists(api: webuiapi.WebUIApi) -> None:
    models = api.get_sd_models()
    assert {model["model_name"] for model in models} == {"paint", "sketch"}
    assert all({"title", "model_name", "hash", "sha256", "filename", "config"} <= set(model) for model in models)
    assert {"Euler", "Euler a", "DPM++ 2M", "Heun"} <= set(api.util_get_sampler_names())
    assert {"automatic", "uniform", "karras", "exponential"} <= set(api.util_get_scheduler_names())
    assert all({"name", "aliases", "options"} <= set(sampler) for sampler in api.get_samplers())
    assert all({"name", "label"} <= set(schedule) for schedule in api.get_schedulers())
    assert api.get_upscalers()[0]["name"] == "None"
    assert "Latent" in [mode["name"] for mode in api.get_latent_upscale_modes()]
    for listing in (
        api.get_sd_vae(),
        api.get_loras(),
        api.get_hypernetworks(),
        api.get_face_restorers(),
        api.get_realesrgan_models(),
        api.get_prompt_styles(),
    ):
        assert isinstance(listing, list)
    assert set(api.get_embeddings()) == {"loaded", "skipped"}
    assert set(api.get_memory()) == {"ram", "cuda", "models"}
    assert set(api.get_scripts()) == {"txt2img", "img2img"}
    assert api.get_cmd_flags()["api"] is True
    assert api.refresh_checkpoints() is None


def test_the_constructor_switches_those_extensions_on_that_are_here(api: webuiapi.WebUIApi) -> None:
    assert api.has_controlnet, "without it, units of one call stay in its next ones"
    assert not (api.has_adetailer or api.has_animatediff)


def test_options(api: webuiapi.WebUIApi) -> None:
    before = api.get_options()
    assert before["samples_format"] == "png"
    assert before["sd_model_checkpoint"] in api.util_get_model_names()
    api.set_options({"send_seed": not before["send_seed"]})
    assert api.get_options() == before | {"send_seed": not before["send_seed"]}
    api.set_options(before)
    assert api.get_options() == before


def test_another_model_is_set_and_used(api: webuiapi.WebUIApi, server: Running) -> None:
    looks = {}
    for name in ("paint", "sketch", "paint"):
        api.util_set_model(name)
        assert api.util_get_current_model().startswith(f"{name}.safetensors")
        api.util_wait_for_ready(check_interval=0.01)
        made = api.txt2img(prompt="a boat", seed=3, width=SIDE, height=SIDE)
        assert made.info["sd_model_name"] == name
        assert f"Model: {name}" in made.image.info["parameters"]
        assert looks.setdefault(name, made.image.tobytes()) == made.image.tobytes()
    assert looks["paint"] != looks["sketch"]
    assert set(server.loaded()) >= {"paint", "sketch"}


def test_a_model_for_one_picture_alone(api: webuiapi.WebUIApi) -> None:
    api.util_set_model("paint")
    made = api.txt2img(prompt="a boat", width=SIDE, height=SIDE, override_settings={"sd_model_checkpoint": "sketch"})
    assert made.info["sd_model_name"] == "sketch"
    assert api.util_get_current_model().startswith("paint")


def test_progress_of_a_picture(api: webuiapi.WebUIApi, painter: ThreadPoolExecutor) -> None:
    api.util_wait_for_ready(check_interval=0.01)
    making = a_long_picture(painter, api, steps=60)
    seen = []
    while not making.done():  # each round is an answer over HTTP
        seen.append(api.get_progress())
    made = making.result()
    assert made.image.size == (128, 128)
    busy = [told for told in seen if told["state"]["job_count"] > 0]
    assert len({told["state"]["sampling_step"] for told in busy}) > 1, "steps count up"
    assert [told["progress"] for told in busy] == sorted(told["progress"] for told in busy)
    assert all(0 < told["progress"] <= 1 for told in busy)
    assert {told["state"]["sampling_steps"] for told in busy} == {60}
    idle = api.get_progress()
    assert (idle["progress"], idle["state"]["job_count"]) == (0, 0)


def test_options_answer_while_a_picture_is_made(api: webuiapi.WebUIApi, painter: ThreadPoolExecutor) -> None:
    making = a_long_picture(painter, api)
    until(lambda: api.get_progress()["state"]["sampling_step"] > 0)
    assert api.get_options()["samples_format"] == "png"
    assert api.get_sd_models()
    assert not making.done()
    api.interrupt()
    making.result()


def test_interrupt_hands_over_what_is_there(api: webuiapi.WebUIApi, painter: ThreadPoolExecutor) -> None:
    making = a_long_picture(painter, api, n_iter=3)
    until(lambda: api.get_progress()["state"]["sampling_step"] > 0)
    assert api.interrupt() == {}
    made = making.result()
    assert len(made.images) == 1
    assert made.image.size == (128, 128)
    after = api.get_progress()
    assert (after["progress"], after["state"]["job_count"]) == (0, 0)
    assert after["state"]["interrupted"] is True
    following = api.txt2img(prompt="a boat", width=SIDE, height=SIDE, n_iter=2)
    assert len(following.images) == 2, "the next job is not touched"


def test_skip_ends_one_batch(api: webuiapi.WebUIApi, painter: ThreadPoolExecutor) -> None:
    making = a_long_picture(painter, api, n_iter=2)
    until(lambda: api.get_progress()["state"]["sampling_step"] > 0)
    assert api.skip() is None
    until(lambda: api.get_progress()["state"]["job_no"] == 1)
    api.interrupt()
    assert len(making.result().images) == 2


def test_png_info_reads_what_txt2img_wrote(api: webuiapi.WebUIApi) -> None:
    made = api.txt2img(prompt="a boat, (calm:1.2)", seed=3, width=SIDE, height=SIDE)
    told = api.png_info(made.image)
    assert told.info == made.info["infotexts"][0]
    assert told.parameters["Seed"] == 3 or told.parameters["Seed"] == "3"


def test_mistakes_are_the_callers(api: webuiapi.WebUIApi) -> None:
    for fields in (
        {"width": -8},
        {"steps": 0},
        {"batch_size": 0},
        {"cfg_scale": "much"},
        {"script_name": "sd upscale"},
    ):
        with pytest.raises(RuntimeError) as caught:
            api.txt2img(prompt="a boat", **({"width": SIDE, "height": SIDE, "steps": 1} | fields))
        assert caught.value.args[0] == 422, fields


def test_what_is_not_offered_is_refused_in_words(api: webuiapi.WebUIApi) -> None:
    with pytest.raises(RuntimeError) as caught:
        api.custom_post("train/embedding", {"embedding_name": "mine"}, baseurl=True)
    status, text = caught.value.args
    assert status == 501
    assert "training is not offered" in text


def test_img2img(api: webuiapi.WebUIApi) -> None:
    image, mask = Image.new("RGB", (96, SIDE), "navy"), Image.new("L", (96, SIDE))
    mask.paste(255, (60, 20, 80, 40))
    made = api.img2img(
        images=[image],
        prompt="a boat",
        seed=3,
        width=SIDE,
        height=SIDE,
        mask_image=mask,
        mask_blur=0,
        inpainting_fill=1,
        inpaint_full_res_padding=8,
    )
    # Only the masked part is made anew, and the picture keeps its size.
    assert made.image.size == (96, SIDE)
    assert made.image.getpixel((5, 5)) == (0, 0, 128)
    assert made.image.crop((60, 20, 80, 40)).tobytes() != image.crop((60, 20, 80, 40)).tobytes()
    assert made.parameters["init_images"] is None
    assert "Inpaint area: Only masked, Masked area padding: 8" in made.info["infotexts"][0]
    again = api.img2img(images=[image], prompt="a boat", seed=3, width=SIDE, height=SIDE)
    assert again.image.size == (SIDE, SIDE)


def test_pictures_that_are_none_do_not_end_the_worker(api: webuiapi.WebUIApi, server: Running) -> None:
    text, torn, huge = (
        base64.b64encode(file).decode() for file in (b"a text file", png_of_size(64, 64), png_of_size(30_000, 30_000))
    )
    fine = webuiapi.raw_b64_img(Image.new("RGB", (SIDE, SIDE)))
    told = {}
    for name, fields in {
        "text": {"init_images": [text]},
        "torn": {"init_images": [torn]},
        "huge": {"init_images": [huge]},
        "mask": {"init_images": [fine], "mask": torn},
        "base64": {"init_images": ["notbase64!!"]},
        "empty": {"init_images": []},
        "none": {},
    }.items():
        answer = server.http.post("/sdapi/v1/img2img", json={"steps": 1, "width": SIDE, "height": SIDE} | fields)
        assert set(answer.json()) == {"error", "detail", "body", "errors"}
        told[name] = answer.status_code, answer.json()["detail"]
    assert {told[name] for name in ("text", "torn", "mask", "base64")} == {(422, "Invalid encoded image")}
    assert told["huge"] == (422, "the picture has more than 67108864 pixels")
    assert (told["empty"][0], told["none"]) == (422, (404, "Init image not found"))
    assert api.txt2img(prompt="a boat", width=SIDE, height=SIDE, steps=1).image.size == (SIDE, SIDE)


def test_the_answer_is_plain_base64(server: Running) -> None:
    answer = server.http.post("/sdapi/v1/txt2img", json={"prompt": "x", "steps": 1, "width": SIDE, "height": SIDE})
    (image,) = answer.json()["images"]
    assert Image.open(io.BytesIO(base64.b64decode(image, validate=True))).size == (SIDE, SIDE)


def test_keys(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("locked")
    models = tiny_models(folder / "models", checkpoints=("paint",))
    with Running(models, folder / "run", config=f'[auth]\nkeys = ["{KEY}"]\n') as locked:
        address = {"host": "127.0.0.1", "port": int(locked.url.rpartition(":")[2])}
        known = webuiapi.WebUIApi(**address, username="anna", password=KEY)
        assert known.util_get_model_names()
        stranger = webuiapi.WebUIApi(**address, username="anna", password="guess")
        assert stranger.session.get(f"{stranger.baseurl}/sd-models").status_code == 401
        with pytest.raises(RuntimeError) as caught:
            stranger.txt2img(prompt="a boat")
        assert caught.value.args[0] == 401
