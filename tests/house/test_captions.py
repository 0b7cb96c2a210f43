"""A real server that says what pictures show, and that clients may end, since its configuration lets them."""

import base64
from pathlib import Path

import pytest

from tests.support.picture_files import file_of, noise_image
from tests.support.running import Running
from tests.support.tiny_models import needs_llama, tiny_models
from tests.support.tiny_projector import tiny_llava

pytestmark = [pytest.mark.llama, needs_llama]

CONFIG = """
[text]
slots = 1
threads = 1
context = 512

[a1111]
caption_model = "seer-Q4_0"
server_stop = true
"""


def test_a_caption_and_the_end(tmp_path: Path) -> None:
    models = tiny_models(tmp_path / "models", text=("seer-Q4_0",))
    tiny_llava(models / "text" / "mmproj-seer.gguf")
    with Running(models, tmp_path / "run", config=CONFIG) as server:
        picture = base64.b64encode(file_of(noise_image(40, 30))).decode()
        said = []
        for style in ("clip", "deepdanbooru", "clip"):
            answer = server.http.post("/sdapi/v1/interrogate", json={"image": picture, "model": style})
            assert answer.status_code == 200, answer.text
            assert list(answer.json()) == ["caption"]
            said.append(answer.json()["caption"])
        assert said[0] == said[2], "captions are not drawn"
        broken = base64.b64encode(file_of(noise_image(40, 30))[:60]).decode()
        assert server.http.post("/sdapi/v1/interrogate", json={"image": broken}).status_code == 422
        assert server.http.post("/sdapi/v1/server-restart").status_code == 501
        stopped = server.http.post("/sdapi/v1/server-stop")
        assert (stopped.status_code, stopped.text) == (200, "Stopping.")
        assert server.process.wait(timeout=20) == 0
