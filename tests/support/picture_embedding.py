"""A textual inversion inside a PNG, as A1111 writes it."""

import base64
import json
from typing import Any

from server.http.png import add_text
from tests.support.fake_images import tiny_png


def picture_with(vectors: Any, name: str | None = "my-style", **more: Any) -> bytes:
    """Return a PNG with an embedding of these vectors inside."""
    tree = {"string_to_token": {"*": 265}, "string_to_param": {"*": {"TORCHTENSOR": vectors}}, "step": 9, **more}
    if name is not None:
        tree["name"] = name
    return add_text(tiny_png(), {"sd-ti-embedding": base64.b64encode(json.dumps(tree).encode()).decode()})
