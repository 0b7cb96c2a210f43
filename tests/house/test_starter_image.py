"""The picture model that ships with Hearth, asked through webuiapi: what it paints can be judged."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webuiapi
from PIL import Image, ImageDraw

from server.core.memory import MIB
from server.starter import CHAT, FOLDER, IMAGE
from tests.support.running import Running
from tests.support.tiny_models import needs_torch
from training.image.evaluation import asked
from training.image.judge import faults, main_colour

pytestmark = [
    pytest.mark.torch,
    needs_torch,
    pytest.mark.skipif(not (FOLDER / "image.safetensors").exists(), reason="the picture model is not trained yet"),
]

SIDE = 128
CONFIG = '[image]\ndevice = "cpu"\nthreads = 1\n[text]\nthreads = 1\n[models]\nrescan_s = 0\n'
ONE_AT_A_TIME = 610 * MIB
"""Room for what the picture model is thought to need (601 MiB), but not for the chat model beside it (about 22 MiB)."""

SAME = 1
"""How far a value of a pixel may differ between runs of the same program: one step of 255."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("starter")
    (folder / "models").mkdir()
    with Running(folder / "models", folder / "run", config=CONFIG, environment={"HEARTH_STARTER": "auto"}) as running:
        yield running


@pytest.fixture(scope="module")
def api(server: Running) -> webuiapi.WebUIApi:
    return webuiapi.WebUIApi(host="127.0.0.1", port=int(server.url.rpartition(":")[2]), sampler="DPM++ 2M", steps=12)


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


def test_a_negative_prompt_takes_away(api: webuiapi.WebUIApi) -> None:
    plain = painted(api, "a circle on a white background")
    without = painted(api, "a circle on a white background", negative_prompt=f"a {main_colour(plain)} circle")
    assert np.abs(pixels(plain) - pixels(without)).mean() > 1


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


@pytest.mark.skipif(not (FOLDER / "chat.gguf").exists(), reason="there is no chat model to swap with")
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
