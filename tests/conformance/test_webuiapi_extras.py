"""The real `webuiapi` package: upscalers, extras and scripts, with real torch and a tiny network of random weights."""

import base64
import io
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import webuiapi
from PIL import Image

from tests.support.picture_files import noise_image
from tests.support.running import Running
from tests.support.tiny_models import needs_torch
from tests.support.waiting import until

pytestmark = [pytest.mark.torch, needs_torch]

SIDE = 64


@pytest.fixture
def api(server: Running) -> webuiapi.WebUIApi:
    return webuiapi.WebUIApi(host="127.0.0.1", port=int(server.url.rpartition(":")[2]), sampler="Euler a", steps=2)


def picture(width: int = SIDE, height: int = SIDE) -> Image.Image:
    return noise_image(width, height)


def test_the_list_is_what_is_there(api: webuiapi.WebUIApi) -> None:
    rows = api.get_upscalers()
    assert [row["name"] for row in rows] == ["None", "Lanczos", "Nearest", "4x-tiny", "R-ESRGAN 2x+"]
    assert [row["scale"] for row in rows[3:]] == [4, 2]
    assert [row["name"] for row in api.get_realesrgan_models()] == ["R-ESRGAN 2x+"]


def test_filters_need_no_model(api: webuiapi.WebUIApi, server: Running) -> None:
    before = set(server.loaded())
    made = api.extra_single_image(picture(), upscaler_1="Lanczos", upscaling_resize=2)
    assert made.image.size == (2 * SIDE, 2 * SIDE)
    assert made.info == "<p>Postprocess upscale by: 2.0, Postprocess upscaler: Lanczos</p>"
    assert set(server.loaded()) == before, "no model of the folders is loaded for it"


def test_a_network(api: webuiapi.WebUIApi, server: Running) -> None:
    made = api.extra_single_image(picture(), upscaler_1="4x-tiny", upscaling_resize=4)
    assert made.image.size == (4 * SIDE, 4 * SIDE)
    assert server.loaded()["4x-tiny"]["state"] == "ready"
    assert made.image.info["postprocessing"].endswith("Postprocess upscaler: 4x-tiny")
    plain = api.extra_single_image(picture(), upscaler_1="Lanczos", upscaling_resize=4)
    assert made.image.tobytes() != plain.image.tobytes()
    mixed = api.extra_single_image(
        picture(), upscaler_1="Lanczos", upscaler_2="4x-tiny", extras_upscaler_2_visibility=0.5, upscaling_resize=4
    )
    between = Image.blend(plain.image, made.image, 0.5)
    assert mixed.image.tobytes() == between.tobytes()


def test_to_a_size(api: webuiapi.WebUIApi) -> None:
    made = api.extra_single_image(
        picture(64, 48), upscaler_1="R-ESRGAN 2x+", resize_mode=1, upscaling_resize_w=128, upscaling_resize_h=128
    )
    assert made.image.size == (128, 128)
    whole = api.extra_single_image(
        picture(64, 48),
        upscaler_1="Nearest",
        resize_mode=1,
        upscaling_resize_w=128,
        upscaling_resize_h=128,
        upscaling_crop=False,
    )
    assert whole.image.size == (168, 128)


def test_a_batch(api: webuiapi.WebUIApi) -> None:
    made = api.extra_batch_images([picture(), picture(32, 32)], upscaler_1="Nearest", upscaling_resize=2)
    assert [image.size for image in made.images] == [(128, 128), (64, 64)]


def test_mistakes_are_the_callers(api: webuiapi.WebUIApi) -> None:
    for fields, word in (
        ({"upscaler_1": "Nope"}, "could not find upscaler named Nope"),
        ({"upscaler_1": "4x-pickled"}, "could not find upscaler named 4x-pickled"),
        ({"upscaler_1": "Lanczos", "gfpgan_visibility": 1}, "GFPGAN"),
        ({"upscaler_1": "Lanczos", "upscaling_resize": 0}, "greater than 0"),
        ({"upscaler_1": "Lanczos", "upscaling_resize": 0.01}, "smaller"),
        ({"upscaler_1": "4x-tiny", "upscaling_resize": 60, "image": picture(1024, 1024)}, "larger"),
    ):
        image = fields.pop("image", picture())
        with pytest.raises(RuntimeError) as caught:
            api.extra_single_image(image, **fields)
        assert caught.value.args[0] == 422, fields
        assert word in caught.value.args[1]


def test_hires_fix_with_a_network(api: webuiapi.WebUIApi, server: Running) -> None:
    fields: dict[str, Any] = {
        "prompt": "a boat",
        "seed": 3,
        "width": SIDE,
        "height": SIDE,
        "enable_hr": True,
        "hr_scale": 2,
    }
    made = api.txt2img(**fields, hr_upscaler="4x-tiny", denoising_strength=0.5)
    assert made.image.size == (2 * SIDE, 2 * SIDE)
    assert "Hires upscaler: 4x-tiny" in made.info["infotexts"][0]
    plain = api.txt2img(**fields, hr_upscaler="None", denoising_strength=0.5)
    assert made.image.tobytes() != plain.image.tobytes()


def test_a_picture_enlarged_by_a_network_before_it_is_changed(api: webuiapi.WebUIApi) -> None:
    fields: dict[str, Any] = {"images": [picture(32, 32)], "prompt": "a boat", "seed": 3, "width": SIDE, "height": SIDE}
    made = [
        api.img2img(**fields, denoising_strength=0.3, override_settings={"upscaler_for_img2img": name}).image.tobytes()
        for name in ("4x-tiny", "Nearest", "Nearest")
    ]
    assert made[0] != made[1] == made[2]


@pytest.mark.parametrize(
    ("script", "args", "size"),
    [
        ("outpainting mk2", ["", 16, 2, ["left", "down"]], (2 * SIDE, 2 * SIDE)),
        ("poor man's outpainting", [32, 2, 0, ["right"]], (2 * SIDE, SIDE)),
    ],
)
def test_a_picture_with_more_room(api: webuiapi.WebUIApi, script: str, args: list[Any], size: tuple[int, int]) -> None:
    old = picture()
    fields: dict[str, Any] = {"prompt": "a boat", "seed": 3, "width": SIDE, "height": SIDE, "script_args": args}
    made = api.img2img(images=[old], denoising_strength=0.8, script_name=script, **fields)
    assert made.image.size == size
    x = size[0] - SIDE if "left" in args[-1] else 0
    kept = made.image.crop((x + 24, 24, x + 40, 40)).convert("RGB")
    assert kept.tobytes() == old.crop((24, 24, 40, 40)).tobytes(), "the picture stays"
    assert "Denoising strength: 0.8" in made.info["infotexts"][0]


def test_scripts_are_listed(api: webuiapi.WebUIApi) -> None:
    listed = api.get_scripts()
    assert {"prompt matrix", "prompts from file or textbox", "x/y/z plot"} <= set(listed["txt2img"])
    assert {"sd upscale", "loopback", "outpainting mk2", "poor man's outpainting"} <= set(listed["img2img"])


def test_a_plot(api: webuiapi.WebUIApi) -> None:
    args = [4, "1, 2", [], 6, "1, 7", [], 0, "", [], True, True, False, False, False, False, False, 0, False]
    made = api.txt2img(prompt="a boat", seed=3, width=SIDE, height=SIDE, script_name="x/y/z plot", script_args=args)
    grid, *cells = made.images
    assert [cell.size for cell in cells] == [(SIDE, SIDE)] * 4
    assert grid.width > 2 * SIDE
    assert grid.height > 2 * SIDE, "titles stand above and beside"
    assert len({cell.tobytes() for cell in cells}) == 4
    alone = api.txt2img(prompt="a boat", seed=3, width=SIDE, height=SIDE, steps=2, cfg_scale=7).image
    assert cells[3].tobytes() == alone.tobytes(), "a cell is the picture that a request of its own gives"
    left, top = grid.width - 2 * SIDE, grid.height - 2 * SIDE
    last = grid.crop((left + SIDE, top + SIDE, left + 2 * SIDE, top + 2 * SIDE))
    assert last.tobytes() == cells[3].tobytes()


def test_a_prompt_matrix(api: webuiapi.WebUIApi) -> None:
    made = api.txt2img(
        prompt="a boat|red|old",
        seed=3,
        width=SIDE,
        height=SIDE,
        script_name="Prompt matrix",
        script_args=[False, False, "positive", "comma", 4],
    )
    assert len(made.images) == 5
    assert made.info["all_prompts"] == ["a boat", "a boat, red", "a boat, old", "a boat, red, old"]


def test_sd_upscale(api: webuiapi.WebUIApi) -> None:
    made = api.img2img(
        images=[picture()],
        prompt="a boat",
        seed=3,
        width=SIDE,
        height=SIDE,
        denoising_strength=0.3,
        script_name="SD upscale",
        script_args=["", 16, "Lanczos", 2.0],
    )
    assert [image.size for image in made.images] == [(2 * SIDE, 2 * SIDE)]


def test_loopback(api: webuiapi.WebUIApi) -> None:
    made = api.img2img(
        images=[picture()],
        prompt="a boat",
        seed=3,
        width=SIDE,
        height=SIDE,
        script_name="Loopback",
        script_args=[2, 0.3, "Linear", "None"],
    )
    grid, first, second = made.images
    assert (grid.size, first.size) == ((2 * SIDE, SIDE), (SIDE, SIDE))
    assert grid.crop((SIDE, 0, 2 * SIDE, SIDE)).tobytes() == second.tobytes()
    assert first.tobytes() != second.tobytes()


def test_interrupt_ends_a_script(api: webuiapi.WebUIApi) -> None:
    args = [False, False, "start", "a\nb\nc\nd\ne\nf"]
    with ThreadPoolExecutor(1) as pool:
        making = pool.submit(
            api.txt2img,
            steps=150,
            width=128,
            height=128,
            script_name="prompts from file or textbox",
            script_args=args,
        )
        until(lambda: api.get_progress()["state"]["sampling_step"] > 0)
        told = api.get_progress()["state"]
        assert (told["job_count"], told["job_no"]) == (6, 0)
        api.interrupt()
        assert len(making.result().images) == 1
    assert api.get_progress()["state"]["job_count"] == 0


def test_pictures_of_any_kind_come_back_as_png(server: Running) -> None:
    for kind in ("JPEG", "WEBP", "BMP", "GIF"):
        file = io.BytesIO()
        picture().save(file, format=kind)
        body = {"image": base64.b64encode(file.getvalue()).decode(), "upscaler_1": "Nearest", "upscaling_resize": 2}
        answer = server.http.post("/sdapi/v1/extra-single-image", json=body)
        assert answer.status_code == 200, kind
        made = Image.open(io.BytesIO(base64.b64decode(answer.json()["image"])))
        assert (made.format, made.size) == ("PNG", (128, 128))


def test_what_is_no_picture_does_not_end_the_worker(server: Running) -> None:
    broken = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(40)).decode()
    for text in ("", "nothing", broken, "http://example.org/x.png"):
        answer = server.http.post("/sdapi/v1/extra-single-image", json={"image": text, "upscaler_1": "Lanczos"})
        assert answer.status_code == 422, text
        assert "x00" not in answer.text
    good = {"image": base64.b64encode(_png()).decode(), "upscaler_1": "Lanczos"}
    assert server.http.post("/sdapi/v1/extra-single-image", json=good).status_code == 200


def test_files_are_only_those_of_the_output_folder(server: Running) -> None:
    for name in ("/etc/passwd", "../../etc/passwd", "outputs/x.png"):
        answer = server.http.get(f"/file={name}")
        assert answer.status_code == 404, name
        assert "root:" not in answer.text


def _png() -> bytes:
    file = io.BytesIO()
    picture().save(file, format="PNG")
    return file.getvalue()
