"""A running Hearth, asked for pictures through its AUTOMATIC1111 door, as any client would."""

import base64
import io
import json
import urllib.request
from dataclasses import dataclass
from typing import Any

from PIL import Image

from server.starter import IMAGE

SIDE = 128


@dataclass(frozen=True)
class Studio:
    """The door of a running server, and how pictures are asked for."""

    url: str
    sampler: str = "DPM++ 2M"
    steps: int = 16
    guidance: float = 4.0
    model: str = IMAGE

    def painted(self, prompt: str, seed: int, **more: Any) -> Image.Image:
        """Return one picture of a prompt; with `init_images` it is made from those."""
        body = {
            "prompt": prompt,
            "seed": seed,
            "steps": self.steps,
            "cfg_scale": self.guidance,
            "sampler_name": self.sampler,
            "width": SIDE,
            "height": SIDE,
            "override_settings": {"sd_model_checkpoint": self.model},
            **more,
        }
        kind = "img2img" if "init_images" in more else "txt2img"
        images: list[str] = self._answer(f"/sdapi/v1/{kind}", body)["images"]
        return Image.open(io.BytesIO(base64.b64decode(images[0]))).convert("RGB")

    def loras(self) -> list[str]:
        """Return the names of the LoRAs that the server lists."""
        return [item["name"] for item in self._answer("/sdapi/v1/loras")]

    def control_models(self) -> list[str]:
        """Return the names of the control models that the server lists, without their hashes."""
        return [title.split(" [")[0] for title in self._answer("/controlnet/model_list")["model_list"]]

    def _answer(self, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=300) as answer:
            return json.load(answer)


def sent(image: Image.Image) -> str:
    """Return a picture as requests hold it."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()
