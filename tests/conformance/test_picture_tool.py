"""A chat model that asks for pictures, on a running server with real engines.

The chat model is random: its calls are valid because they are forced, and what it says of the pictures is nonsense.
"""

import base64
import io
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai.types.responses.response_output_item import ImageGenerationCall
from PIL import Image

from tests.support.running import Running
from tests.support.tiny_models import needs_llama, needs_torch, tiny_models
from tests.support.waiting import until

pytestmark = [pytest.mark.llama, pytest.mark.torch, needs_llama, needs_torch]

CONTEXT = 16384
CONFIG = f"""
[text]
context = {CONTEXT}
slots = 2
threads = 1
[image]
device = "cpu"
threads = 1
[models.settings.ann]
context = 262144
"""
"""The chat model's cache is large, or it would fit beside a checkpoint that rests."""
TOOL: Any = {"type": "image_generation", "size": "64x64", "steps": 4, "seed": 7}
FORCED: Any = {"type": "image_generation"}
LIMIT = 4000
"""In tokens: enough for the longest prompt that a call can have."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tool")
    return tiny_models(folder, text=("ann",), checkpoints=("klee",), context=CONTEXT, width=64)


@pytest.fixture(scope="module")
def server(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(models, tmp_path_factory.mktemp("roomy"), config=CONFIG) as running:
        yield running


@contextmanager
def client_of(server: Running) -> Iterator[openai.OpenAI]:
    transport = httpx.Client(trust_env=False, timeout=120)
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", http_client=transport, max_retries=0) as client:
        yield client


def opened(data: str | None, kind: str) -> Image.Image:
    assert data is not None
    image = Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
    image.load()
    assert (image.format, image.size) == (kind, (64, 64))
    return image


def asked(said: str, tool: Any = TOOL, **fields: Any) -> Any:
    """Return the fields of a response whose model must ask for a picture."""
    return {"model": "ann", "input": said, "tools": [tool], "tool_choice": FORCED, "max_output_tokens": LIMIT, **fields}


def test_a_response_with_a_picture_and_one_that_changes_it(server: Running) -> None:
    with client_of(server) as client:
        first = client.responses.create(**asked("draw a boat"))
        made, *rest = first.output
        assert isinstance(made, ImageGenerationCall) and made.status == "completed"
        before = opened(made.result, "PNG")
        assert made.to_dict()["revised_prompt"]
        assert [item.type for item in rest] == ["message"]
        tool = {**TOOL, "action": "edit", "output_format": "jpeg", "partial_images": 1}
        events = list(
            client.responses.create(**asked("make it blue", tool, previous_response_id=first.id, stream=True))
        )
    names = [event.type for event in events if ".image_generation_call." in event.type]
    assert [name.rpartition(".")[2] for name in names] == ["in_progress", "generating", "partial_image", "completed"]
    last = events[-1]
    assert last.type in ("response.completed", "response.incomplete")
    changed = last.response.output[0]
    assert isinstance(changed, ImageGenerationCall) and changed.to_dict()["action"] == "edit"
    assert opened(changed.result, "JPEG").tobytes() != before.convert("RGB").tobytes()


def test_models_that_do_not_fit_together_take_turns(models: Path, tmp_path: Path) -> None:
    """Memory holds one of the two at a time: the chat model makes room for the picture, and comes back to go on."""
    with Running(models, tmp_path, config=CONFIG) as roomy:  # learns what a picture takes
        draw(roomy)
        held = {name: int(entry["resident"]["ram"]) for name, entry in roomy.loaded().items()}
    limit = held["klee"] + held["ann"] * 2 // 3
    with Running(models, tmp_path, config=f"{CONFIG}[memory]\nram = {limit}\n") as tight:
        draw(tight)
        assert [job["model"] for job in tight.jobs()] == ["ann", "klee", "ann"]
        assert set(tight.loaded()) == {"ann"}


def draw(server: Running) -> None:
    answer = server.http.post("/v1/responses", json=asked("draw a boat"), timeout=120)
    assert answer.status_code == 200, answer.text
    opened(answer.json()["output"][0]["result"], "PNG")


def test_a_chat_with_a_picture(server: Running) -> None:
    body = {
        "model": "ann",
        "messages": [{"role": "user", "content": "draw a boat"}],
        "tools": [{**TOOL, "output_format": "webp"}],
        "tool_choice": FORCED,
        "max_tokens": LIMIT,
    }
    made = server.http.post("/v1/chat/completions", json=body, timeout=120)
    assert made.status_code == 200, made.text
    (shown,) = made.json()["choices"][0]["message"]["images"]
    head, _, data = shown["image_url"]["url"].partition(",")
    assert head == "data:image/webp;base64"
    opened(data, "WEBP")
    with server.http.stream("POST", "/v1/chat/completions", json={**body, "stream": True}, timeout=120) as stream:
        lines = [line.removeprefix("data: ") for line in stream.iter_lines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    deltas = [json.loads(line)["choices"][0]["delta"] for line in lines[:-1]]
    assert [delta["images"][0]["type"] for delta in deltas if "images" in delta] == ["image_url"]


def test_leaving_while_the_picture_is_made_ends_it(server: Running) -> None:
    body = asked("draw a boat", {**TOOL, "steps": 1000, "size": "512x512"}, stream=True)
    generating = threading.Event()

    def leave() -> None:
        with server.client() as client, client.stream("POST", "/v1/responses", json=body) as stream:
            for line in stream.iter_lines():
                if "image_generation_call.generating" in line:
                    generating.set()
                    until(lambda: [job for job in server.jobs("running") if job["kind"] == "image"])
                    return

    with ThreadPoolExecutor(1) as pool:
        pool.submit(leave).result(timeout=120)
    assert generating.is_set()
    until(lambda: not server.jobs("running") and not server.jobs("waiting"))
    assert server.jobs()[0]["state"] == "cancelled" and server.jobs()[0]["kind"] == "image"


def test_saved_and_sent_jpegs_of_the_a1111_door_tell_how_they_were_made(server: Running) -> None:
    body = {"prompt": "a boat 船", "steps": 2, "width": 64, "height": 64, "seed": 5}
    png = server.http.post("/sdapi/v1/txt2img", json=body).json()
    told = server.http.post(
        "/sdapi/v1/txt2img", json={**body, "override_settings": {"samples_format": "jpg", "jpeg_quality": 95}}
    ).json()
    before, after = opened(png["images"][0], "PNG"), opened(told["images"][0], "JPEG")
    assert before.size == after.size
    answer = server.http.post("/sdapi/v1/png-info", json={"image": told["images"][0]}).json()
    assert answer["info"] == json.loads(told["info"])["infotexts"][0]
    assert answer["info"] == before.info["parameters"]
    assert answer["parameters"]["Prompt"] == "a boat 船"
