"""The picture model that ships with Hearth, with its LoRA and its control model: what they paint can be judged."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webuiapi
from PIL import Image, ImageDraw

from server.core.memory import MIB
from server.starter import CHAT, CHAT_FILE, FOLDER, IMAGE, IMAGE_FILE
from server.starter.companions import CANNY, CANNY_FILE, PIXEL_ART, PIXEL_ART_FILE
from tests.support.running import Running
from tests.support.tiny_models import needs_torch
from training.image import effects
from training.image.edges import colours_of
from training.image.evaluation import asked
from training.image.judge import faults, main_colour
from training.image.pixel_art import flatness
from training.image.studio import Studio

pytestmark = [
    pytest.mark.torch,
    needs_torch,
    pytest.mark.skipif(not (FOLDER / IMAGE_FILE).exists(), reason="the picture model is not trained yet"),
]

needs_lora = pytest.mark.skipif(not (FOLDER / PIXEL_ART_FILE).exists(), reason="the LoRA is not trained yet")
needs_control = pytest.mark.skipif(not (FOLDER / CANNY_FILE).exists(), reason="the control model is not trained yet")

SIDE = 128
CONFIG = '[image]\ndevice = "cpu"\nthreads = 1\n[text]\nthreads = 1\n[models]\nrescan_s = 0\n'
ONE_AT_A_TIME = 610 * MIB
"""Room for what the picture model is thought to need (601 MiB), but not for the chat model beside it (about 22 MiB)."""

SAME = 1
"""How far a value of a pixel may differ between runs of the same program: one step of 255."""

NEAR = 2.0
"""How far the mean of a picture may lie from that of another processor, which rounds differently, of 255."""

FEW = 3


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("starter")
    (folder / "models").mkdir()
    with Running(folder / "models", folder / "run", config=CONFIG, environment={"HEARTH_STARTER": "auto"}) as running:
        yield running


@pytest.fixture(scope="module")
def api(server: Running) -> webuiapi.WebUIApi:
    return webuiapi.WebUIApi(host="127.0.0.1", port=int(server.url.rpartition(":")[2]), sampler="DPM++ 2M", steps=12)


@pytest.fixture(scope="module")
def studio(server: Running) -> Studio:
    return Studio(server.url, steps=12)


def painted(api: webuiapi.WebUIApi, prompt: str, **more: Any) -> Image.Image:
    image: Image.Image = api.txt2img(
        prompt=prompt, **{"seed": 5, "width": SIDE, "height": SIDE, "cfg_scale": 4, **more}
    ).image
    return image.convert("RGB")


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image, dtype=np.int16)


@pytest.mark.parametrize("colour", ["red", "green", "blue", "yellow"])
def test_a_circle_has_the_colour_that_was_asked_for(api: webuiapi.WebUIApi, colour: str) -> None:
    assert main_colour(painted(api, f"a big {colour} circle on a white background")) == colour


def test_most_prompts_it_never_saw_are_painted_right(api: webuiapi.WebUIApi) -> None:
    questions = asked(12)
    right = [question for question in questions if not faults(painted(api, question.prompt), question.scene)]
    assert len(right) >= 8


def test_the_same_seed_paints_the_same_picture(api: webuiapi.WebUIApi) -> None:
    first, again, other = (pixels(painted(api, "a house at night", seed=seed)) for seed in (3, 3, 4))
    assert np.abs(first - again).max() <= SAME
    assert np.abs(first - other).max() > 20


def test_a_picture_is_what_the_card_says(server: Running) -> None:
    told = re.search(rf"\| {re.escape(effects.PINNED_ROW)} \| ([\d., ]+) \|", (FOLDER / "IMAGE.md").read_text())
    if told is None:
        pytest.skip("the picture model is not scored yet")
    made = effects.mean_colour(Studio(server.url).painted(effects.PINNED, 5))
    assert made == pytest.approx([float(value) for value in told[1].split(",")], abs=NEAR)


def test_a_negative_prompt_takes_away(studio: Studio) -> None:
    plain = [main_colour(studio.painted(effects.BARE, seed)) for seed in range(2 * FEW)]
    colour = max(filter(None, plain), key=plain.count)
    unwanted = f"a big {colour} circle on a white background"
    without = [main_colour(studio.painted(effects.BARE, seed, negative_prompt=unwanted)) for seed in range(2 * FEW)]
    assert without.count(colour) < plain.count(colour)


def test_what_a_prompt_stresses_is_seen_more(studio: Studio) -> None:
    first, second = (
        sum(effects.redness(studio.painted(prompt, seed)) for seed in range(FEW))
        for prompt in (effects.FIRST, effects.SECOND)
    )
    assert first > second


def test_a_second_pass_keeps_the_scene(studio: Studio) -> None:
    question = next(one for one in asked() if not faults(studio.painted(one.prompt, 5), one.scene))
    large = studio.painted(question.prompt, 5, **effects.TWICE)
    assert large.size == (2 * SIDE, 2 * SIDE)
    assert faults(large.reduce(2), question.scene) == []


@needs_lora
def test_the_lora_draws_in_blocks(studio: Studio) -> None:
    assert PIXEL_ART in studio.loras()
    prompts = [question.prompt for question in asked(2 * FEW)]
    plain, half, whole = (
        np.mean([flatness(studio.painted(prompt + wish, 5)) for prompt in prompts])
        for wish in ("", f" <lora:{PIXEL_ART}:0.5>", f" <lora:{PIXEL_ART}:1>")
    )
    assert whole > plain + 0.15
    assert plain - 0.05 < half < whole + 0.05


@needs_control
def test_the_control_model_keeps_the_silhouette(studio: Studio) -> None:
    assert CANNY in studio.control_models()
    scenes = [question.scene for question in asked() if not question.scene.style][: 2 * FEW]
    free, bound = (
        np.mean([effects.overlap(studio.painted(colours_of(scene), 5, **more(scene)), scene) for scene in scenes])
        for more in (lambda scene: {}, effects.edges_of)
    )
    assert bound > 0.6
    assert bound > free + 0.2


def test_inpainting_changes_the_mask_and_nothing_else(api: webuiapi.WebUIApi) -> None:
    before = painted(api, "a big red circle on a white background")
    mask = Image.new("L", (SIDE, SIDE), 0)
    ImageDraw.Draw(mask).rectangle((40, 40, 87, 87), fill=255)
    after = api.img2img(
        images=[before], mask_image=mask, prompt="a big blue circle on a white background", seed=1,
        width=SIDE, height=SIDE, cfg_scale=4, denoising_strength=1.0, mask_blur=0, steps=12,
    ).image.convert("RGB")  # fmt: skip
    change = np.abs(pixels(before) - pixels(after)).max(axis=2)
    outside = np.asarray(mask) == 0
    assert change[outside].max() <= 2
    assert change[~outside].mean() > 20


def test_strength_moves_a_picture_further_and_further(api: webuiapi.WebUIApi) -> None:
    before = painted(api, "a big red circle on a white background")
    moved = []
    for strength in (0.1, 0.5, 1.0):
        after = api.img2img(
            images=[before], prompt="a big blue star on a black background", seed=1,
            width=SIDE, height=SIDE, cfg_scale=4, denoising_strength=strength, steps=12,
        ).image.convert("RGB")  # fmt: skip
        moved.append(float(np.abs(pixels(before) - pixels(after)).mean()))
    assert moved == sorted(moved)
    assert moved[-1] > 2 * moved[0]


@pytest.mark.skipif(not (FOLDER / CHAT_FILE).exists(), reason="there is no chat model to swap with")
def test_chat_and_pictures_take_turns_in_little_memory(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    config = CONFIG + f'[memory]\nram = "{ONE_AT_A_TIME // MIB} MiB"\n'
    with Running(
        tmp_path / "models", tmp_path / "run", config=config,
        environment={"HEARTH_STARTER": "auto"},
    ) as running:  # fmt: skip
        for turn in range(2):
            answer = running.http.post(
                "/v1/chat/completions",
                json={
                    "model": CHAT,
                    "temperature": 0,
                    "messages": [{"role": "user", "content": "How do I pull a model?"}],
                },
            )
            assert "hearth pull" in answer.json()["choices"][0]["message"]["content"]
            picture = running.http.post(
                "/sdapi/v1/txt2img",
                json={"prompt": "a big red circle on a white background", "steps": 12, "width": SIDE, "height": SIDE},
            )
            assert picture.status_code == 200, picture.text
            assert running.http.get("/hearth/v1/memory").json()["used"]["ram"] <= ONE_AT_A_TIME
            assert IMAGE in running.loaded()
            assert turn > 0 or CHAT not in running.loaded(), "chat had to go"
