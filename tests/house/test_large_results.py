"""A picture whose file is larger than what a frame used to hold, through the whole server and back."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.support.picture_files import file_of, noise_image
from tests.support.running import Running

SIDE, FACTOR = 1440, 4
OLD_LIMIT = 64 * 1024**2


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    (tmp_path / "models").mkdir()
    with Running(tmp_path / "models", tmp_path, config="[image]\nlargest_result = 36000000\n") as running:
        yield running


def test_it_comes_whole_and_the_configured_limit_holds(server: Running) -> None:
    sent = base64.b64encode(file_of(noise_image(SIDE, SIDE))).decode()
    body = {"image": sent, "upscaler_1": "Lanczos", "upscaling_resize": FACTOR}
    with server.client() as client:
        answer = client.post("/sdapi/v1/extra-single-image", json=body, timeout=300)
        assert answer.status_code == 200, answer.text[:300]
        file = base64.b64decode(answer.json()["image"])
        assert len(file) > OLD_LIMIT
        with Image.open(io.BytesIO(file)) as picture:
            assert picture.size == (SIDE * FACTOR, SIDE * FACTOR)
            corner = picture.crop((SIDE * FACTOR - 64, SIDE * FACTOR - 64, SIDE * FACTOR, SIDE * FACTOR))
            assert len(corner.getcolors(64 * 64) or []) > 64, "the last rows hold a picture, too"
        refused = client.post("/sdapi/v1/extra-single-image", json=body | {"upscaling_resize": FACTOR + 1}, timeout=300)
        assert refused.status_code == 422
        assert "larger than what is made" in refused.text
        assert client.get("/sdapi/v1/progress").json()["state"]["job_count"] == 0
